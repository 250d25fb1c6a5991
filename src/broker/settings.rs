//! What the team file says about the broker itself, beside where it listens.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::activity::{Invalid, Reader};
use crate::identity::{TeamFile, WebPush};
use crate::usage::Prices;

/// Longer than anything is kept: 100 years.
const MOST_DAYS: u64 = 36_500;
/// A file is sent within minutes, and half of what all that come in may take.
const LARGEST_FILE: usize = 256 << 20;

/// The settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `retentionDays`: activity that is older is deleted once a day; `None` keeps all of it.
    pub retention_days: Option<u64>,
    /// `https`: the certificate of the port; `None` for plain HTTP.
    pub https: Option<Https>,
    pub files: FileLimits,
    /// `webPush`: who the broker is to push services.
    pub web_push: WebPush,
    /// `prices.json` beside the team file, else the table inside the program.
    pub prices: Arc<Prices>,
}

/// `files {maxBytes?, quotaBytes?}`: how large a file may be, and all of one member together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    pub max_bytes: usize,
    pub quota_bytes: u64,
}

impl Default for FileLimits {
    fn default() -> FileLimits {
        FileLimits { max_bytes: 25 << 20, quota_bytes: 1 << 30 }
    }
}

/// `https {cert, key}`: PEM files, relative to the folder of the team file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Settings {
    /// Read them from the fields of the file that concern nobody else; `path` is the file's.
    ///
    /// # Errors
    /// The first field that has a wrong type or value.
    pub fn of(path: &Path, file: &TeamFile) -> Result<Settings, Invalid> {
        let value = Value::Object(file.more.clone());
        let at = Reader::new(&value);
        let days = |r: &Reader<'_>| match r.uint()? {
            days @ 1..=MOST_DAYS => Ok(days),
            _ => Err(r.invalid("is not a number of days from 1 to 36500")),
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let https = |r: &Reader<'_>| {
            let file = |name| r.field(name).str().map(|text| folder.join(text));
            Ok(Https { cert: file("cert")?, key: file("key")? })
        };
        let files = |r: &Reader<'_>| {
            let (mut limits, max) = (FileLimits::default(), r.field("maxBytes"));
            if let Some(bytes) = max.optional(Reader::uint)? {
                let fits = usize::try_from(bytes).ok().filter(|bytes| (1..=LARGEST_FILE).contains(bytes));
                limits.max_bytes = fits.ok_or_else(|| max.invalid("is not from 1 to 268435456"))?;
            }
            let quota = r.field("quotaBytes").optional(Reader::uint)?;
            limits.quota_bytes = quota.unwrap_or(limits.quota_bytes);
            Ok(limits)
        };
        Ok(Settings {
            files: at.field("files").optional(files)?.unwrap_or_default(),
            web_push: WebPush::of(file)?,
            retention_days: at.field("retentionDays").optional(days)?,
            https: at.field("https").optional(https)?,
            prices: Arc::default(),
        })
    }
}
