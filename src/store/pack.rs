//! Raw deflate (RFC 1951) where it pays, with a dictionary that both sides know beforehand.
use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress_to_output};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::short::{self, Short};

/// What events are made of, the most frequent last: most blocks and skeletons are so short that deflate alone finds
/// nothing repeated in them. It is part of the file format: with another text no stored one can be read.
const DICTIONARY: &str = "{\"type\":\"image\",\"mediaType\":\"image/png\"}<system-reminder>\\n</system-reminder>\
{\"kind\":\"objective_open\",\"ts\":17,\"objectiveId\":\"{\"kind\":\"opaque_http\",\"ts\":17,\"duration\":,\"entry\":{\
\"kind\":\"opaque_http\",\"startedAt\":17,\"endedAt\":17,\"host\":\"api.anthropic.com\",\"method\":\"GET\",\"url\":\"https://\
\",\"status\":200,\"requestHeaders\":{\"accept\":\"*/*\",\"accept-encoding\":\"gzip, deflate, br, zstd\",\"authorization\":\"\
[REDACTED]\",\"connection\":\"keep-alive\",\"content-length\":\"\",\"content-type\":\"application/json\",\"host\":\"\
\",\"user-agent\":\"},\"responseHeaders\":{\"cache-control\":\"no-cache\",\"date\":\"\",\"server\":\"cloudflare\",\
\"transfer-encoding\":\"chunked\"},\"requestBodyPreview\":null,\"responseBodyPreview\":null}}\
{\"type\":\"unknown\",\"raw\":{\"type\":\"{\"type\":\"thinking\",\"text\":\"x-anthropic-billing-header: cc_version=2.1.; \
cc_entrypoint=cli; cch=;{\"type\":\"tool_result\",\"toolUseId\":\"toolu_01\",\"content\":[{\"type\":\"text\",\"text\":\"\"}],\
\"isError\":false}{\"type\":\"tool_use\",\"id\":\"toolu_01\",\"name\":\"Read\",\"input\":{\"file_path\":\"/\",\"name\":\"Bash\",\
\"input\":{\"command\":\"\",\"description\":\"\"}}{\"type\":\"text\",\"text\":\"\
{\"kind\":\"llm_exchange\",\"ts\":17,\"duration\":,\"entry\":{\"kind\":\"openai_responses\",\"kind\":\"anthropic_messages\",\
\"startedAt\":17,\"endedAt\":17,\"request\":{\"model\":\"claude-opus-4-\",\"maxTokens\":64000,\"temperature\":null,\"system\"\
:\u{1},\"systemParts\":[85,62,],\"messages\":\u{3}]}],\"tools\":\u{2}]},\"response\":{\"stopReason\":\"end_turn\",\
\"stopReason\":\"tool_use\",\"stopSequence\":null,\"messages\":\u{4}]}],\"usage\":{\"inputTokens\":,\"outputTokens\":,\
\"cacheCreationInputTokens\":0,\"cacheReadInputTokens\":},\"status\":200},\"id\":\"msg_01\",\"requestId\":\"req_01\",\
\"session\":{\"id\":\"\",\"agentId\":\"},\"client\":\"claude-cli/2.1. (external, cli)\",\"host\":\"api.anthropic.com\",\
\"stream\":true,\"firstTokenAt\":17,\"servedModel\":\"claude-opus-4-\"}}\u{5}2 ,\"cache_control\":{\"type\":\"ephemeral\"}";

/// The level: 6 and 9 made the file of a real session not a page smaller and took a fifth longer.
const LEVEL: u8 = 3;

/// Up to this many bytes a text is packed as a short one; a longer one gains more from codes of its own.
const SHORT: usize = 320;

/// Compressors that are used again and again: a new one is 300 KB to clear.
pub(super) struct Packer {
    short: Short,
    long: Box<CompressorOxide>,
}

impl Packer {
    pub(super) fn new() -> Packer {
        let mut packer = Packer { short: Short::new(DICTIONARY.as_bytes()), long: Box::default() };
        packer.long.set_format_and_level(DataFormat::Raw, LEVEL);
        packer
    }

    /// As [`Packer::pack`] for a text that is made mostly of what the dictionary holds: 20 times as fast.
    pub(super) fn pack_known(&mut self, raw: &[u8]) -> Vec<u8> {
        if raw.len() > short::MOST {
            return self.pack(raw);
        }
        let out = self.short.pack(raw);
        if out.len() < raw.len() { out } else { raw.to_vec() }
    }

    /// The bytes to store for `raw`: deflated if that is smaller, else as they are. [`unpack`] tells the two apart
    /// by their length.
    pub(super) fn pack(&mut self, raw: &[u8]) -> Vec<u8> {
        if raw.len() <= SHORT {
            return self.pack_known(raw);
        }
        let mut out = Vec::with_capacity(raw.len() / 2);
        self.long.reset();
        // Compressed and thrown away: after the flush, what follows begins with a byte and a block of its own.
        compress_to_output(&mut self.long, DICTIONARY.as_bytes(), TDEFLFlush::Sync, |_| true);
        compress_to_output(&mut self.long, raw, TDEFLFlush::Finish, |bytes| {
            out.extend_from_slice(bytes);
            true
        });
        if out.len() < raw.len() { out } else { raw.to_vec() }
    }
}

/// Undo [`Packer::pack`] for data that was `size` bytes; `None` if it cannot have been.
pub(super) fn unpack(stored: &[u8], size: usize) -> Option<Vec<u8>> {
    if stored.len() == size {
        return Some(stored.to_vec());
    }
    // Deflate shrinks by at most 1032: a larger claim is damage, not a reason to allocate.
    if stored.len() > size || size / 1040 > stored.len() {
        return None;
    }
    let mut out = Vec::with_capacity(DICTIONARY.len() + size);
    out.extend_from_slice(DICTIONARY.as_bytes());
    out.resize(DICTIONARY.len() + size, 0);
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, read, written) =
        decompress(&mut DecompressorOxide::new(), stored, &mut out, DICTIONARY.len(), flags);
    let whole = status == TINFLStatus::Done && read == stored.len() && written == size;
    whole.then(|| out.split_off(DICTIONARY.len()))
}

#[cfg(test)]
mod tests {
    use super::{Packer, unpack};

    #[test]
    fn what_goes_in_comes_out() {
        let mut packer = Packer::new();
        let long = "to be or not to be ".repeat(9000);
        let noise: Vec<u8> = crate::sys::random::bytes::<999>().to_vec();
        let events = r#"{"kind":"opaque_http","ts":17,"entry":{}}"#.repeat(900).into_bytes();
        assert_eq!(unpack(&packer.pack_known(&events), events.len()).as_deref(), Some(&events[..]));
        for raw in [b"".to_vec(), b"a".to_vec(), noise, long.clone().into_bytes(), vec![b'x'; 1 << 20]] {
            let stored = packer.pack(&raw);
            assert!(stored.len() <= raw.len());
            assert_eq!(unpack(&stored, raw.len()).as_deref(), Some(&raw[..]));
        }
        assert!(packer.pack(long.as_bytes()).len() < long.len() / 50);
        let small = br#"{"type":"tool_use","id":"toolu_01AbC","name":"Bash","input":{"command":"ls"}}"#;
        assert!(packer.pack(small).len() < small.len() / 2, "the dictionary helps");
    }

    #[test]
    fn damage_is_noticed() {
        let mut packer = Packer::new();
        let raw = "to be or not to be ".repeat(90);
        let stored = packer.pack(raw.as_bytes());
        assert_eq!(unpack(&stored, raw.len() + 1), None);
        assert_eq!(unpack(&stored, raw.len() - 1), None);
        assert_eq!(unpack(&stored[..stored.len() - 1], raw.len()), None);
        assert_eq!(unpack(&stored, usize::MAX), None, "no allocation for an absurd size");
        assert_eq!(unpack(&[0xff; 9], 100), None);
    }

    #[test]
    fn what_older_files_hold_stays_readable() {
        // Packed by the first version.
        let stored =
            [0xc3, 0x91, 0xc0, 0x3d, 0x52, 0x73, 0x72, 0xf2, 0x75, 0x14, 0x32, 0x90, 0x28, 0xa5, 0x5a, 0x00];
        let raw = br#"{"type":"text","text":"Hello, hello, hello"}"#;
        assert_eq!(unpack(&stored, raw.len()).as_deref(), Some(&raw[..]));
    }
}
