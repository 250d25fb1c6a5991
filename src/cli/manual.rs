//! The pages of the manual as the binary carries them: `src/build.rs` has deflated the folder `man`, since that is a
//! third of it.
use miniz_oxide::inflate::decompress_to_vec_with_limit;

const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/man"));

/// Far beyond what the pages have together.
const LIMIT: usize = 4 << 20;

/// All pages: what `man` calls them, and their sources in mdoc.
///
/// # Panics
/// Never: a test reads what the build has packed.
#[must_use]
pub fn pages() -> Vec<(String, String)> {
    let bytes = decompress_to_vec_with_limit(PACKED, LIMIT).expect("the build packs it whole");
    let text = String::from_utf8(bytes).expect("the build reads the pages as text");
    let mut parts = text.split('\0').map(str::to_string);
    std::iter::from_fn(|| Some((parts.next()?, parts.next()?))).collect()
}

/// The source of the page of that name.
#[must_use]
pub fn page(name: &str) -> Option<String> {
    pages().into_iter().find(|(known, _)| known == name).map(|(_, source)| source)
}
