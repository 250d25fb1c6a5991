use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;

/// A project and a place for backups, removed at the end.
struct Lab(PathBuf);

impl Lab {
    fn new() -> Lab {
        let lab = Lab(std::env::temp_dir().join(format!("mcp-config-{}", random::hex::<6>())));
        fs::create_dir_all(lab.project()).unwrap();
        fs::create_dir(lab.backups()).unwrap();
        lab
    }

    fn project(&self) -> PathBuf {
        self.0.join("project")
    }

    fn backups(&self) -> PathBuf {
        self.0.join("backups")
    }

    fn file(&self) -> PathBuf {
        self.project().join(NAME)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn entry(&self) -> Value {
        json!({"command": "ac7", "env": {SOCKET: self.0.join("s.sock").to_str().unwrap()}})
    }

    fn put(&self) -> (Placed, Vec<String>) {
        let mut notes = Vec::new();
        recover(&self.backups(), &self.project(), &mut notes);
        let placed = put(&self.project(), &self.entry(), &[self.backups()], &mut notes);
        (placed.unwrap_or_else(|why| Placed::Inline { why: why.to_string() }), notes)
    }

    fn in_file(&self) -> Guard {
        match self.put() {
            (Placed::InFile(guard), _) => guard,
            (Placed::Inline { why }, _) => panic!("{why}"),
        }
    }

    fn inline(&self) -> String {
        match self.put() {
            (Placed::InFile(_), _) => panic!("it was put into the file"),
            (Placed::Inline { why }, _) => why,
        }
    }

    fn left(&self) -> usize {
        fs::read_dir(self.backups()).unwrap().count()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As a kill -9 leaves it: the lock is gone, the files are not.
fn kill(guard: Guard) {
    let mut guard = std::mem::ManuallyDrop::new(guard);
    guard.restored = true;
    guard._lock.unlock().unwrap();
}

const ODD: &str = "{ \"mcpServers\" : {\"x\":{\"command\":\"true\"}},\t\"n\": 1.50 }";

#[test]
fn the_file_comes_back_byte_for_byte() {
    for original in [Some(ODD), Some("{}"), Some("{}\n\n"), None] {
        let lab = Lab::new();
        if let Some(text) = original {
            fs::write(lab.file(), text).unwrap();
            fs::set_permissions(lab.file(), fs::Permissions::from_mode(0o640)).unwrap();
        }
        let mut guard = lab.in_file();
        assert!(lab.text().contains(r#""ac7""#) && lab.left() == 1 + usize::from(original.is_some()));
        assert_eq!((guard.restore(), guard.restore()), (None, None), "a second time does nothing");
        assert_eq!(fs::read_to_string(lab.file()).ok().as_deref(), original);
        if original.is_some() {
            assert_eq!(fs::metadata(lab.file()).unwrap().permissions().mode() & 0o777, 0o640);
        }
        assert_eq!(lab.left(), 0);
    }
}

#[test]
fn a_panic_brings_it_back_too() {
    let lab = Lab::new();
    fs::write(lab.file(), ODD).unwrap();
    let guard = lab.in_file();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = guard;
        std::panic::resume_unwind(Box::new("on the way"));
    }));
    assert!(panicked.is_err() && lab.text() == ODD && lab.left() == 0);
}

#[test]
fn a_link_stays_a_link() {
    let lab = Lab::new();
    let real = lab.0.join("shared.json");
    fs::write(&real, ODD).unwrap();
    symlink(&real, lab.file()).unwrap();
    let guard = lab.in_file();
    assert!(fs::read_to_string(&real).unwrap().contains(r#""ac7""#));
    drop(guard);
    assert!(lab.file().is_symlink() && fs::read_to_string(&real).unwrap() == ODD);
    fs::remove_file(&real).unwrap();
    assert!(lab.inline().contains("No such file"), "a link to nowhere is not written through");
    assert!(lab.file().is_symlink() && !real.exists());
}

#[test]
fn what_a_killed_session_left_is_brought_back_by_the_next_start() {
    for original in [Some(ODD), None] {
        let lab = Lab::new();
        original.map_or(Ok(()), |text| fs::write(lab.file(), text)).unwrap();
        kill(lab.in_file());
        assert!(lab.text().contains(r#""ac7""#));
        let (placed, notes) = lab.put();
        assert!(matches!(placed, Placed::InFile(_)));
        assert!(notes.len() == 1 && notes[0].starts_with("restored "), "{notes:?}");
        drop(placed);
        assert_eq!(fs::read_to_string(lab.file()).ok().as_deref(), original);
        assert_eq!(lab.left(), 0);
    }
}

#[test]
fn a_living_session_and_another_directory_are_left_alone() {
    let lab = Lab::new();
    fs::write(lab.file(), ODD).unwrap();
    let guard = lab.in_file();
    let mut notes = Vec::new();
    recover(&lab.backups(), &lab.project(), &mut notes);
    kill(guard);
    recover(&lab.backups(), &lab.0, &mut notes);
    assert_eq!((notes.len(), lab.left()), (0, 2));
}

#[test]
fn of_a_changed_file_only_our_entry_comes_out() {
    let lab = Lab::new();
    fs::write(lab.file(), ODD).unwrap();
    let mut guard = lab.in_file();
    let mut config: Value = serde_json::from_str(&lab.text()).unwrap();
    config["mcpServers"]["new"] = json!({"command": "theirs"});
    fs::write(lab.file(), config.to_string()).unwrap();
    assert!(guard.restore().unwrap().contains("somebody else has changed it"));
    let now: Value = serde_json::from_str(&lab.text()).unwrap();
    assert_eq!(now["mcpServers"], json!({"x": {"command": "true"}, "new": {"command": "theirs"}}));
    let mut guard = lab.in_file();
    fs::remove_file(lab.file()).unwrap();
    assert_eq!(guard.restore(), None);
    assert!(!lab.file().exists() && lab.left() == 0, "who takes it away wants it away");
}

#[test]
fn the_entry_of_a_living_session_stays_and_that_of_a_dead_one_goes() {
    let lab = Lab::new();
    fs::write(lab.file(), edit::with(Some(ODD), &lab.entry()).unwrap()).unwrap();
    let socket = lab.0.join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    assert!(lab.inline().starts_with("a session that runs has its entry there"));
    drop(listener);
    let (placed, notes) = lab.put();
    assert!(matches!(placed, Placed::InFile(_)));
    assert!(notes[0].contains("took out the entry of a session that is dead"), "{notes:?}");
    drop(placed);
    let now: Value = serde_json::from_str(&lab.text()).unwrap();
    assert_eq!(now["mcpServers"], json!({"x": {"command": "true"}}));
}

#[test]
fn what_cannot_be_changed_is_not() {
    for text in [&b"not json"[..], b"[]", b"\xff"] {
        let lab = Lab::new();
        fs::write(lab.file(), text).unwrap();
        assert!(lab.inline().starts_with("it is not "));
        assert!(fs::read(lab.file()).unwrap() == text && lab.left() == 0);
    }
    let lab = Lab::new();
    fs::create_dir(lab.file()).unwrap();
    assert!(lab.inline().contains("directory"));
}

#[test]
fn a_backup_that_cannot_be_written_back_is_kept_and_named() {
    let lab = Lab::new();
    fs::write(lab.file(), ODD).unwrap();
    let mut guard = lab.in_file();
    fs::remove_file(lab.file()).unwrap();
    fs::create_dir(lab.file()).unwrap();
    let told = guard.restore().unwrap();
    let backup = guard.record.backup.clone().unwrap();
    assert!(told.contains("could not be restored") && told.contains(backup.to_str().unwrap()), "{told}");
    assert_eq!(fs::read_to_string(backup).unwrap(), ODD);
}
