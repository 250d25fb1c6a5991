//! The page's files as they are sent.
use std::io::Write;
use std::process::{Command, Stdio};

use crate::rig::{Reply, Rig};

fn field<'a>(reply: &'a Reply, name: &'static str) -> &'a str {
    reply.headers.get(name).unwrap_or_default()
}

#[test]
fn a_file_goes_packed_to_who_takes_that() {
    let rig = Rig::new();
    let get = |path: &str, headers: &str| rig.call_with("GET", path, "", "", headers);
    for path in ["/", "/enroll?code=x", "/web/app.js", "/web/app.css", "/web/icon.svg"] {
        let plain = get(path, "");
        let packed = get(path, "Accept-Encoding: br, gzip\r\n");
        assert_eq!((plain.status, packed.status), (200, 200), "{path}");
        assert_eq!((field(&plain, "content-encoding"), field(&packed, "content-encoding")), ("", "gzip"));
        for reply in [&plain, &packed] {
            assert_eq!(field(reply, "vary"), "Accept-Encoding");
            assert!(field(reply, "content-security-policy").contains("default-src 'none'"), "{path}");
        }
        // Another program unpacks it: header, check and length are right too.
        let mut gzip = Command::new("gzip");
        let mut gzip = gzip.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        gzip.stdin.take().unwrap().write_all(&packed.body).unwrap();
        let unpacked = gzip.wait_with_output().unwrap();
        assert!(unpacked.status.success() && unpacked.stdout == plain.body, "{path}");

        let tags = [field(&plain, "etag"), field(&packed, "etag")].map(str::to_string);
        assert_ne!(tags[0], tags[1], "they are different representations");
        let again = |tag: &str, more: &str| get(path, &format!("If-None-Match: {tag}\r\n{more}")).status;
        assert_eq!((again(&tags[0], ""), again(&tags[1], "Accept-Encoding: gzip\r\n")), (304, 304));
        assert_eq!((again(&tags[1], ""), again(&tags[0], "Accept-Encoding: gzip\r\n")), (200, 200));
    }
    assert_eq!(field(&get("/web/app.js", "Accept-Encoding: gzip;q=0\r\n"), "content-encoding"), "");
}
