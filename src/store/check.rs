//! What SQLite itself can say about a file, whatever is in it.
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::error::{Error, Fault};
use super::file::PATIENCE;

/// Check a database's structure and its foreign keys. Returns what is wrong in words, at most 100 lines of each; none
/// for a sound database. A running writer is not disturbed.
///
/// # Errors
/// See [`Error`]: no file, or damage so great that the check itself cannot go on.
pub fn check_structure(path: &Path) -> Result<Vec<String>, Error> {
    let check = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(PATIENCE)?;
        let mut faults = Vec::new();
        for sql in [
            "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
            r#"SELECT "table" || coalesce(' row ' || rowid, '') || ' refers to nothing in ' || parent
               FROM pragma_foreign_key_check LIMIT 100"#,
        ] {
            let mut select = conn.prepare(sql)?;
            let lines = select.query_map([], |row| row.get(0))?;
            faults.extend(lines.collect::<Result<Vec<String>, _>>()?);
        }
        Ok(faults)
    };
    if !path.exists() {
        return Err(Error::Missing { path: path.to_path_buf() });
    }
    check().map_err(|e: rusqlite::Error| match Fault::from(e).at(path) {
        Error::NotOurs { path, .. } => Error::NotOurs { path, kind: "main" },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::random;

    #[test]
    fn a_reference_to_nothing_is_found_and_so_is_damage() {
        let path = std::env::temp_dir().join(format!("ac7-check-{}.db", random::hex::<8>()));
        assert_eq!(check_structure(&path), Err(Error::Missing { path: path.clone() }));
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(
            "PRAGMA foreign_keys = off;
             CREATE TABLE a (id INTEGER PRIMARY KEY);
             CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a);
             CREATE INDEX b_a ON b (a);
             INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1);",
        )
        .unwrap();
        assert_eq!(check_structure(&path).unwrap(), [""; 0]);
        conn.execute_batch("INSERT INTO b VALUES (7, 2)").unwrap();
        assert_eq!(check_structure(&path).unwrap(), ["b row 7 refers to nothing in a"]);
        conn.close().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let index = bytes.len() - 4096;
        bytes[index..].fill(0);
        fs::write(&path, &bytes).unwrap();
        let found = check_structure(&path);
        assert!(found.as_ref().map_or(true, |faults| faults.len() > 1), "{found:?}");
        fs::write(&path, "no database at all, only some text that is long enough").unwrap();
        assert!(check_structure(&path).unwrap_err().to_string().ends_with("is not an ac7 main database"));
        fs::remove_file(&path).unwrap();
    }
}
