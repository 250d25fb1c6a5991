//! Valid WebSocket messages: masked, in fragments, compressed, with control frames between them.
use super::random::Random;
use ac7::capture::exchange::{Headers, Side};
use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress_to_output};

/// What the two ends agreed on.
#[derive(Clone, Copy)]
pub struct Agreed {
    pub deflate: bool,
    /// Whether messages refer to earlier ones, by side: agent, upstream.
    takeover: [bool; 2],
}

impl Agreed {
    pub fn any(random: &mut Random) -> Agreed {
        Agreed { deflate: random.one_in(2), takeover: [random.one_in(2), random.one_in(2)] }
    }

    /// The header of the 101 that says so.
    pub fn headers(self) -> Headers {
        let mut value = String::from("x-other;a=b, permessage-deflate; client_max_window_bits=15");
        for (name, takeover) in ["client", "server"].iter().zip(self.takeover) {
            value.push_str(&if takeover { String::new() } else { format!("; {name}_no_context_takeover") });
        }
        Headers(if self.deflate { vec![("Sec-WebSocket-Extensions".into(), value)] } else { Vec::new() })
    }
}

/// Writes one direction.
pub struct Writer {
    side: Side,
    agreed: Agreed,
    compressor: Box<CompressorOxide>,
}

impl Writer {
    pub fn new(side: Side, agreed: Agreed) -> Writer {
        let mut compressor: Box<CompressorOxide> = Box::default();
        compressor.set_format_and_level(DataFormat::Raw, 1);
        Writer { side, agreed, compressor }
    }

    /// The frames of a message.
    pub fn message(&mut self, text: bool, payload: &[u8], random: &mut Random) -> Vec<u8> {
        let compress = self.agreed.deflate && !random.one_in(4);
        let payload = if compress { self.compressed(payload) } else { payload.to_vec() };
        let mut pieces = if random.one_in(2) { vec![&payload[..]] } else { random.pieces(&payload) };
        if pieces.is_empty() || random.one_in(8) {
            pieces.insert(random.below(pieces.len() + 1), b"");
        }
        let mut out = Vec::new();
        let last = pieces.len() - 1;
        for (i, piece) in pieces.into_iter().enumerate() {
            let opcode = if i > 0 { 0 } else { 2 - u8::from(text) };
            let reserved = if i == 0 && compress { 0x40 } else { 0 };
            let fin = if i == last { 0x80 } else { 0 };
            if random.one_in(10) {
                let length = random.below(126);
                out.extend(self.frame([0x89, 0x8a][random.below(2)], &vec![b'p'; length], random));
            }
            out.extend(self.frame(fin | reserved | opcode, piece, random));
        }
        out
    }

    /// Nothing counts behind it.
    pub fn close(&self, random: &mut Random) -> Vec<u8> {
        [self.frame(0x88, b"\x03\xe8", random), random.text(20).into_bytes()].concat()
    }

    fn compressed(&mut self, payload: &[u8]) -> Vec<u8> {
        if !self.agreed.takeover[usize::from(self.side == Side::Upstream)] {
            self.compressor.reset();
        }
        let mut out = Vec::new();
        compress_to_output(&mut self.compressor, payload, TDEFLFlush::Sync, |bytes| {
            out.extend_from_slice(bytes);
            true
        });
        match out.strip_suffix(b"\x00\x00\xff\xff") {
            Some(message) => message.to_vec(),
            // Nothing at all is an empty block without the end that is left out (RFC 7692 §7.2.3.6).
            None => vec![0],
        }
    }

    fn frame(&self, first: u8, payload: &[u8], random: &mut Random) -> Vec<u8> {
        let masked = self.side == Side::Agent;
        let bit = if masked { 0x80 } else { 0 };
        let mut out = vec![first];
        match payload.len() {
            n @ 0..126 => out.push(bit | u8::try_from(n).unwrap()),
            n @ 126..65536 => {
                out.extend([&[bit | 126][..], &u16::try_from(n).unwrap().to_be_bytes()].concat());
            }
            n => out.extend([&[bit | 127][..], &(n as u64).to_be_bytes()].concat()),
        }
        if !masked {
            out.extend_from_slice(payload);
            return out;
        }
        let mask = [(); 4].map(|()| random.byte());
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }
}
