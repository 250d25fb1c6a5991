//! A file of JSON Lines as a sink: for machines that keep artifacts and no database.
//!
//! Each event is one line and one write, at once: whoever reads along sees whole lines, and a file that is left
//! behind ends with one.
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use serde_json::Value;

use super::{Encoded, Place, Report, Sink};
use crate::sys::clock;

/// A pipe whose reader takes nothing for so long is not waited for any more.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Writes rows as `ac7 traces --json` prints them: `{id, memberName, event, createdAt}`, numbered from 1.
pub struct FileSink {
    file: File,
    path: PathBuf,
    /// The member's name as JSON.
    member: String,
    is_regular: bool,
    /// Bytes of whole lines.
    length: u64,
    /// Whether something that is no line stands after them.
    torn: bool,
    /// Whether the reader of a pipe has been waited for in vain.
    stalled: bool,
    report: Report,
}

impl FileSink {
    /// Empty the file at `path` or make it, 0600 either way. A pipe must have its reader already.
    ///
    /// # Errors
    /// It cannot be opened, or not made private.
    pub fn create(path: &Path, member: &str) -> io::Result<FileSink> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags);
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.mode() & 0o777 != 0o600 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(FileSink {
            file,
            path: path.to_path_buf(),
            member: Value::from(member).to_string(),
            is_regular: metadata.is_file(),
            length: 0,
            torn: false,
            stalled: false,
            report: Report::default(),
        })
    }

    /// Write the whole line, or leave none of it behind.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.torn = true;
                    self.stalled = false;
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => self.wait()?,
                Err(why) => return Err(why),
            }
        }
        self.torn = false;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Wait until a pipe takes more; once in vain, and then no more until it has.
    fn wait(&mut self) -> io::Result<()> {
        let time = if self.stalled { Timespec::default() } else { PATIENCE };
        let ready = poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&time))?;
        self.stalled = ready == 0;
        if self.stalled { Err(io::Error::new(ErrorKind::TimedOut, "nobody reads it")) } else { Ok(()) }
    }

    /// After a failure: take the torn line away. Where that cannot be done the next one begins a line of its own.
    fn mend(&mut self) {
        if self.torn && self.is_regular {
            let cut = self.file.set_len(self.length);
            self.torn = cut.and_then(|()| self.file.seek(SeekFrom::Start(self.length))).is_err();
        }
    }
}

impl Sink for FileSink {
    fn push(&mut self, event: Encoded) {
        let start = if self.torn { "\n" } else { "" };
        let (id, member, now) = (self.report.stored + 1, &self.member, clock::now_ms());
        let line = format!(
            "{start}{{\"id\":{id},\"memberName\":{member},\"event\":{},\"createdAt\":{now}}}\n",
            event.json
        );
        match self.write(line.as_bytes()) {
            Ok(()) => self.report.stored += 1,
            Err(why) => {
                self.mend();
                self.report.dropped += 1;
                self.report.reason = Some(format!("{}: {why}", self.path.display()));
            }
        }
    }

    fn close(self: Box<Self>, _grace: Duration) -> Report {
        let mut report = self.report;
        // A command that tidies up may have taken it away.
        if self.is_regular && report.stored > 0 && self.file.metadata().is_ok_and(|m| m.nlink() == 0) {
            report.dropped += report.stored;
            report.stored = 0;
            report.reason = Some(format!("{}: it was removed", self.path.display()));
        }
        Report { place: Some(Place::File(self.path)), ..report }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::process::Command;

    use super::*;
    use crate::sys::random;

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ac7-file-{}", random::hex::<6>()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    fn push(sink: &mut FileSink, text: &str) {
        let json = format!("{{\"x\":\"{text}\"}}");
        sink.push(Encoded { ts: 1, kind: "opaque_http", json });
    }

    fn close(sink: FileSink) -> Report {
        Box::new(sink).close(Duration::ZERO)
    }

    fn texts(lines: &str) -> Vec<(u64, String)> {
        let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| (row["id"].as_u64().unwrap(), row["event"]["x"].as_str().unwrap().to_string()))
            .collect()
    }

    #[test]
    fn every_event_is_a_line_at_once() {
        let folder = folder();
        let path = folder.join("t.jsonl");
        fs::write(&path, "what an earlier run has left").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut sink = FileSink::create(&path, "a\"b").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        push(&mut sink, "one");
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(r#"{"id":1,"memberName":"a\"b","event":{"x":"one"},"createdAt":1"#),
            "{text}"
        );
        push(&mut sink, "two");
        let want = [(1, "one".to_string()), (2, "two".to_string())];
        assert_eq!(texts(&fs::read_to_string(&path).unwrap()), want);
        let report = close(sink);
        assert_eq!((report.stored, report.dropped, report.place), (2, 0, Some(Place::File(path))));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_counted_with_the_reason() {
        let mut sink = FileSink::create(Path::new("/dev/full"), "m").unwrap();
        push(&mut sink, "one");
        push(&mut sink, "two");
        let report = close(sink);
        assert_eq!((report.stored, report.dropped), (0, 2));
        assert!(report.reason.unwrap().starts_with("/dev/full: No space left"));
        let folder = folder();
        let path = folder.join("t.jsonl");
        let mut sink = FileSink::create(&path, "m").unwrap();
        push(&mut sink, "one");
        fs::remove_file(&path).unwrap();
        let report = close(sink);
        assert_eq!((report.stored, report.dropped), (0, 1));
        assert!(report.reason.unwrap().ends_with("t.jsonl: it was removed"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_torn_line_is_taken_away() {
        let folder = folder();
        let path = folder.join("t.jsonl");
        let mut sink = FileSink::create(&path, "m").unwrap();
        push(&mut sink, "one");
        // As a disk that becomes full in the middle of a line.
        sink.file.write_all(b"{\"id\":2,").unwrap();
        sink.torn = true;
        sink.mend();
        push(&mut sink, "two");
        assert_eq!(texts(&fs::read_to_string(&path).unwrap()).len(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_pipe_is_written_as_long_as_somebody_reads_it() {
        let folder = folder();
        let path = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(FileSink::create(&path, "m").is_err(), "nobody is waited for");
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut reader = OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
        let mut sink = FileSink::create(&path, "m").unwrap();
        push(&mut sink, "one");
        sink.stalled = true; // the time to wait is over
        while sink.file.write(&[b' '; 4096]).is_ok() {}
        push(&mut sink, "lost");
        assert_eq!((sink.report.stored, sink.report.dropped), (1, 1));
        assert_eq!(sink.report.reason.as_deref().map(|r| r.ends_with("pipe: nobody reads it")), Some(true));
        let mut got = Vec::new();
        assert_eq!(reader.read_to_end(&mut got).unwrap_err().kind(), ErrorKind::WouldBlock);
        sink.torn = true; // by the spaces
        push(&mut sink, "two");
        close(sink);
        reader.read_to_end(&mut got).unwrap();
        let text = String::from_utf8(got).unwrap();
        let whole: String = text.split_inclusive('\n').filter(|line| line.starts_with('{')).collect();
        assert_eq!(texts(&whole).len(), 2, "a torn line harms no other");
        fs::remove_dir_all(&folder).unwrap();
    }
}
