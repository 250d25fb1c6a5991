//! The page's pure parts, under node.
use std::fs;
use std::path::Path;
use std::process::Command;

use support::run::{Finished, TempDir};

#[test]
fn the_model_under_node() {
    let (root, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")), TempDir::new());
    // node takes files for modules only where a package says so.
    fs::write(folder.join("package.json"), r#"{"type":"module"}"#).unwrap();
    for name in ["text.js", "model.js", "source.js", "sw.js"] {
        fs::copy(root.join("src/web").join(name), folder.join(name)).unwrap();
    }
    fs::copy(root.join("tests/web/model.test.js"), folder.join("model.test.js")).unwrap();
    let output = Command::new("node").arg("model.test.js").current_dir(folder.path()).output();
    let done = Finished::from(&output.expect("node is needed: Debian's package nodejs has it"));
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
}
