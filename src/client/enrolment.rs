//! Asking for a token from a device that has none (RFC 8628 in the broker's words).
use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, Error, Failure};
use crate::activity::{Invalid, Reader};

/// What RFC 8628 §3.5 has a device add to its patience when it asked too soon.
pub const SLOWER: Duration = Duration::from_secs(5);

/// What the broker gives a device that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The device's own secret.
    pub device_code: String,
    /// What somebody types who lets it in.
    pub user_code: String,
    /// The page where that is done, with the code in it.
    pub page: String,
    pub lasts: Duration,
    /// How long to wait between two questions.
    pub interval: Duration,
}

/// What a device is told.
#[derive(Clone, PartialEq, Eq)]
pub enum Told {
    /// Ask again.
    Pending,
    /// Ask again, but later.
    SlowDown,
    Expired,
    Denied {
        reason: Option<String>,
    },
    Token(String),
}

impl Client {
    /// `POST /enroll`: ask to be let in; `label` is how the device would like to be listed.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub fn ask_to_enrol(&self, label: &str) -> Result<Asked, Error> {
        let path = "/enroll";
        let answer = self.json("POST", path, Some(&json!({"labelHint": label})))?;
        self.asked(&answer).map_err(|_| self.bad_answer(path))
    }

    fn asked(&self, answer: &Value) -> Result<Asked, Invalid> {
        let at = Reader::new(answer);
        let seconds = |name: &str| at.field(name).uint().map(Duration::from_secs);
        let page = at.field("verificationUriComplete").string()?;
        Ok(Asked {
            device_code: at.field("deviceCode").string()?,
            user_code: at.field("userCode").string()?,
            // Some brokers do not know by which name they are reached; we do.
            page: if page.starts_with('/') { self.at(&page) } else { page },
            lasts: seconds("expiresIn")?,
            interval: seconds("interval")?.max(Duration::from_secs(1)),
        })
    }

    /// `POST /enroll/poll`: whether the device was let in.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Answered`] for an answer that is none of those, [`Error::BadAnswer`].
    pub fn poll_enrolment(&self, device_code: &str) -> Result<Told, Error> {
        let path = "/enroll/poll";
        let body = json!({"deviceCode": device_code}).to_string();
        let answer = self.send("POST", path, Some(("application/json", body.as_bytes())))?;
        let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let text = |name: &str| value[name].as_str().map(str::to_string);
        match (answer.status, text("error").as_deref()) {
            (200, _) => text("token").map(Told::Token).ok_or_else(|| self.bad_answer(path)),
            (400, Some("authorization_pending")) => Ok(Told::Pending),
            (400, Some("slow_down")) => Ok(Told::SlowDown),
            (400, Some("expired_token")) => Ok(Told::Expired),
            (400, Some("access_denied")) => Ok(Told::Denied { reason: text("errorDescription") }),
            (status, _) => {
                let failure = Failure::Status(status, answer.error);
                Err(Error::Answered { url: self.url.clone(), failure })
            }
        }
    }
}
