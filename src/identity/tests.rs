use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};

use super::*;
use crate::sys::random;

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("ac7-identity-{}", random::hex::<8>()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn options(path: &Path) -> SetupOptions {
    SetupOptions {
        path: path.to_path_buf(),
        team: "T".into(),
        directive: None,
        context: None,
        member: "ann".into(),
        title: None,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A team file of one member, with one field changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut file = json!({
        "team": {"name": "T", "directive": "d", "context": "c",
                 "permissionPresets": {"lead": ["objectives.create", "activity.read"]}},
        "members": [{
            "name": "ann", "role": {"title": "admin", "description": ""}, "instructions": "",
            "permissions": ["lead"],
            "tokens": [{"id": "t1", "hash": format!("sha256:{}", "0".repeat(64)), "label": "",
                        "origin": "bootstrap", "createdAt": 1}]
        }]
    });
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match file.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(name.to_string(), value)),
        Value::Array(items) => items.push(value),
        other => panic!("{other} has no fields"),
    }
    file
}

#[test]
fn setup_makes_a_private_team_that_its_token_opens() {
    let folder = Folder::new();
    let path = folder.0.join("deep/er/ac7.json");
    let done = setup(&options(&path)).unwrap();
    let kek = fs::read_to_string(folder.0.join("deep/er/ac7.json.kek")).unwrap();
    assert_eq!((mode(&path), mode(&folder.0.join("deep/er/ac7.json.kek"))), (0o600, 0o600));
    assert_eq!((kek.trim_end().len(), done.kept_kek), (44, false));
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&done.token));

    let (file, stamp) = TeamFile::load(&path).unwrap();
    assert_eq!(stamp, Stamp::of(&path).unwrap());
    let (member, token) = file.authenticate(&done.token, 0).unwrap();
    assert_eq!((member.name.as_str(), token.origin.as_str()), ("ann", "bootstrap"));
    assert_eq!(file.permissions(member), Permission::ALL);
    assert!(file.authenticate(&done.token[..46], 0).is_none());
}

#[test]
fn setup_never_overwrites_a_team_and_keeps_a_key() {
    let folder = Folder::new();
    let path = folder.0.join("ac7.json");
    setup(&options(&path)).unwrap();
    let (team, kek) = (fs::read(&path).unwrap(), fs::read(folder.0.join("ac7.json.kek")).unwrap());
    let refused = setup(&options(&path)).err().unwrap().to_string();
    assert_eq!(refused, format!("setup: a config already exists at {}", path.display()));
    assert_eq!(fs::read(&path).unwrap(), team);

    fs::remove_file(&path).unwrap();
    assert!(setup(&options(&path)).unwrap().kept_kek);
    assert_eq!(fs::read(folder.0.join("ac7.json.kek")).unwrap(), kek);
}

#[test]
fn setup_refuses_what_the_file_may_not_hold_and_leaves_nothing() {
    let folder = Folder::new();
    let path = folder.0.join("ac7.json");
    let bad = SetupOptions { member: "a b".into(), ..options(&path) };
    let said = setup(&bad).err().unwrap().to_string();
    assert_eq!(said, "members[0].name is not 1 to 128 of A-Z a-z 0-9 . _ -");
    assert!(!path.exists() && !folder.0.join("ac7.json.kek").exists());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let long = "x".repeat(8193);
    for (pointer, value, want) in [
        ("/team", json!(7), "team.name is missing"),
        ("/team/directive", json!(""), "team.directive is not 1 to 512 characters long"),
        ("/team/permissionPresets", json!([]), "team.permissionPresets is not an object"),
        (
            "/team/permissionPresets/lead",
            json!(["fly"]),
            "team.permissionPresets.lead[0] is not a known permission",
        ),
        ("/members", json!({}), "members is not an array"),
        ("/members/0/name", json!("a/b"), "members[0].name is not 1 to 128 of A-Z a-z 0-9 . _ -"),
        ("/members/0/role", json!({"title": ""}), "members[0].role.title is not 1 to 64 characters long"),
        ("/members/0/instructions", json!(long), "members[0].instructions is not 0 to 8192 characters long"),
        ("/members/0/permissions", json!([1]), "members[0].permissions[0] is not a string"),
        (
            "/members/0/tokens/0/hash",
            json!("plain"),
            "members[0].tokens[0].hash is not sha256:<64 hex digits>",
        ),
        (
            "/members/0/tokens/0/origin",
            json!("x"),
            "members[0].tokens[0].origin is not one of bootstrap, rotate, enroll",
        ),
        (
            "/members/-",
            json!({"name": "ann", "role": {"title": "x"}}),
            "members[1].name is the name of an earlier member too",
        ),
        ("/port", json!(70000), "port is not a port"),
    ] {
        let said = TeamFile::from_json(&with(pointer, value)).unwrap_err().to_string();
        assert_eq!(said, want, "{pointer}");
    }
}

#[test]
fn a_syntax_error_has_line_and_column() {
    let error = TeamFile::parse(Path::new("ac7.json"), b"{\n  \"team\": {,}\n}").unwrap_err();
    assert_eq!(error.to_string(), "ac7.json:2:12: key must be a string");
    assert!(matches!(error, Error::Syntax { line: 2, column: 12, .. }));
}

#[test]
fn presets_widen_and_deleted_ones_do_not_break() {
    let file = TeamFile::from_json(&with(
        "/members/0/permissions",
        json!(["activity.read", "lead", "gone", "team.manage"]),
    ));
    let file = file.unwrap();
    let names: Vec<_> = file.permissions(&file.members[0]).iter().map(|p| p.name()).collect();
    assert_eq!(names, ["team.manage", "objectives.create", "activity.read"]);
    assert!(!file.allows(&file.members[0], Permission::MembersManage));
}

#[test]
fn an_expired_token_opens_nothing() {
    let mut file = TeamFile::from_json(&with("/members/0/more", json!(1))).unwrap();
    let mut minted = mint("x", "rotate", 0);
    minted.token.expires_at = Some(100);
    file.members[0].tokens.push(minted.token);
    assert!(file.authenticate(&minted.text, 99).is_some());
    assert!(file.authenticate(&minted.text, 100).is_none());
}

#[test]
fn unknown_fields_survive_a_rewrite() {
    let folder = Folder::new();
    let path = folder.0.join("ac7.json");
    let mut before = with("/members/0/totpSecret", json!({"v": 1, "ct": "x"}));
    before["webPush"] = json!({"a": [1, 2]});
    before["team"]["motto"] = json!("m");
    before["members"][0]["tokens"][0]["note"] = json!("n");
    fs::write(&path, before.to_string()).unwrap();
    TeamFile::update(&path, |file| {
        file.team.context = "new".into();
        Ok(())
    })
    .unwrap();
    before["team"]["context"] = json!("new");
    let after: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(after, before);
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_change_that_breaks_a_rule_is_not_written() {
    let folder = Folder::new();
    let path = folder.0.join("ac7.json");
    setup(&options(&path)).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = TeamFile::update(&path, |file| {
        file.team.name.clear();
        Ok(())
    });
    assert_eq!(refused.unwrap_err().to_string(), "team.name is not 1 to 128 characters long");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn updates_at_the_same_time_lose_nothing() {
    let folder = Folder::new();
    let path = folder.0.join("ac7.json");
    setup(&options(&path)).unwrap();
    thread::scope(|scope| {
        for t in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for i in 0..5 {
                    TeamFile::update(path, |file| {
                        let token = mint(&format!("{t}-{i}"), "rotate", 0).token;
                        file.members[0].tokens.push(token);
                        Ok(())
                    })
                    .unwrap();
                }
            });
        }
    });
    let (file, _) = TeamFile::load(&path).unwrap();
    assert_eq!(file.members[0].tokens.len(), 21);
}

#[test]
fn the_last_who_manages_members_cannot_be_lost() {
    let folder = Folder::new();
    let path = folder.0.join("ac7.json");
    setup(&options(&path)).unwrap();
    let role = || Role { title: "x".into(), description: String::new() };
    let none = || MemberChange { role: None, instructions: None, permissions: Some(Vec::new()) };
    let update = |change: &dyn Fn(&mut TeamFile) -> Result<(), Error>| TeamFile::update(&path, change);
    let add = |name: &'static str, permission: &'static str| {
        move |file: &mut TeamFile| {
            let permissions = vec![permission.to_string()];
            let new = NewMember { name: name.into(), role: role(), instructions: String::new(), permissions };
            file.add_member(new, Some("ann"), 7).map(drop)
        }
    };
    let before = fs::read(&path).unwrap();
    for refused in
        [update(&|file| file.change_member("ann", none())), update(&|file| file.remove_member("ann"))]
    {
        assert!(matches!(refused, Err(Error::LastAdmin)));
    }
    assert_eq!(fs::read(&path).unwrap(), before);

    update(&add("bob", "admin")).unwrap();
    update(&|file| file.remove_member("ann")).unwrap();
    for refused in [
        update(&|file| file.remove_preset("admin").map(drop)),
        update(&|file| file.set_preset("admin", vec![Permission::TeamManage])),
    ] {
        assert!(matches!(refused, Err(Error::LastAdmin)), "his right is the preset's");
    }
    let (file, _) = TeamFile::load(&path).unwrap();
    assert_eq!(file.members[0].tokens[0].created_by.as_deref(), Some("ann"));

    for (change, want) in [
        (add("bob", "admin"), "there is a member bob already"),
        (add("cat", "fly"), "permissions[0] is neither a permission nor a preset"),
    ] {
        assert_eq!(update(&change).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_rotation_leaves_one_token_and_a_revocation_one_less() {
    let mut file = TeamFile::from_json(&with("/members/0/more", json!(1))).unwrap();
    assert!(matches!(file.revoke("ann", "nope"), Err(Error::NoToken { .. })));
    assert!(matches!(file.rotate("zed", None, 0), Err(Error::NoMember(_))));
    let fresh = file.rotate("ann", Some("ann"), 5).unwrap();
    assert_eq!(file.members[0].tokens, std::slice::from_ref(&fresh.token));
    assert!(file.authenticate(&fresh.text, 5).is_some());
    file.revoke("ann", &fresh.token.id).unwrap();
    assert!(file.authenticate(&fresh.text, 5).is_none());
}

#[test]
fn a_sealed_secret_is_the_members_own() {
    let mut file = TeamFile::from_json(&with("/members/0/more", json!(1))).unwrap();
    let folder = Folder::new();
    let kek = KekPlace { file: folder.0.join("kek"), variable: None };
    assert!(file.members[0].totp_secret(&kek).unwrap().is_none());
    let secret = TotpSecret::new();
    let sealed = secret.seal(&kek, "ann").unwrap();
    assert_eq!(mode(&kek.file), 0o600, "a key is made where there is none");
    file.set_totp("ann", sealed.clone()).unwrap();
    let file = TeamFile::from_json(&file.to_json()).unwrap();
    assert_eq!(file.members[0].totp_secret(&kek).unwrap().unwrap().base32(), secret.base32());
    fs::remove_file(&kek.file).unwrap();
    assert!(matches!(file.members[0].totp_secret(&kek), Err(Error::Sealed { field: "totpSecret", .. })));
    fs::write(&kek.file, "x").unwrap();
    assert!(matches!(secret.seal(&kek, "ann"), Err(Error::NoKey { variable: false, .. })));
}
