use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    # a comment\n\
    www-data:x:33:33:www:/var/www:/bin/false\r\n\
    app:x:1000:50:app:/home/app:/bin/sh\n\
    1234:x:77:78::/odd:\n\
    broken\n\
    bad:x:minus:0::/:\n\
    nohome:x:2000:2000::relative:/bin/sh\n\
    app:x:1:1::/second:\n";
const GROUP: &str = "root:x:0:\nusers:x:100:app, www-data\n\
    predefined:x:50000:app\nbroken\nbig:x:99999999999:app\n:x:5:app\n55:x:56:\n";

fn request(image_user: &str) -> UserRequest {
    UserRequest {
        image_user: image_user.into(),
        ..UserRequest::default()
    }
}

fn look(request: &UserRequest) -> Result<User, UserError> {
    lookup(
        request,
        &Accounts {
            passwd: PASSWD.into(),
            group: GROUP.into(),
        },
    )
}

#[test]
fn the_images_user_is_found_in_its_files() {
    for (text, uid, gid, groups, home) in [
        ("", 0, 0, vec![0], Some("/root")),
        ("root", 0, 0, vec![0], Some("/root")),
        ("www-data", 33, 33, vec![33, 100], Some("/var/www")),
        ("www-data:100", 33, 100, vec![100], Some("/var/www")),
        ("1003:users", 1003, 100, vec![100], None),
        ("1002", 1002, 0, vec![0], None),
        ("1000", 1000, 50, vec![50, 100, 50000], Some("/home/app")),
        ("app", 1000, 50, vec![50, 100, 50000], Some("/home/app")),
        ("1234", 77, 78, vec![78], Some("/odd")),
        (":users", 0, 100, vec![100], Some("/root")),
        ("app:", 1000, 50, vec![50, 100, 50000], Some("/home/app")),
        ("nohome", 2000, 2000, vec![2000], None),
        ("1002:55", 1002, 56, vec![56], None),
    ] {
        let user = look(&request(text)).unwrap();
        let got = (user.uid, user.gid, user.groups, user.home.as_deref());
        assert_eq!(got, (uid, gid, groups, home), "{text}");
    }
}

#[test]
fn name_wins_over_number_wins_over_image() {
    let both = UserRequest {
        username: "www-data".into(),
        uid: Some(1000),
        ..request("root")
    };
    assert_eq!(look(&both).unwrap().uid, 33);
    let number = UserRequest {
        uid: Some(1000),
        gid: Some(7),
        ..request("root:root")
    };
    let user = look(&number).unwrap();
    assert_eq!(
        (user.uid, user.gid, user.groups),
        (1000, 7, vec![7, 100, 50000])
    );
    let numeric_name = UserRequest {
        username: "1000".into(),
        ..request("")
    };
    assert_eq!(look(&numeric_name).unwrap().gid, 50);
    // run_as_user is a number, also where an account has that number as its name
    let plain = UserRequest {
        uid: Some(1234),
        ..request("")
    };
    assert_eq!(look(&plain).unwrap().uid, 1234);
}

#[test]
fn strict_leaves_out_the_images_groups() {
    let merge = UserRequest {
        uid: Some(1000),
        supplemental_groups: vec![100, 60000],
        ..request("")
    };
    assert_eq!(look(&merge).unwrap().groups, vec![50, 100, 50000, 60000]);
    let strict = UserRequest {
        policy: GroupsPolicy::Strict,
        ..merge
    };
    assert_eq!(look(&strict).unwrap().groups, vec![50, 100, 60000]);
}

#[test]
fn what_cannot_be_is_named() {
    let uid = |uid| UserRequest {
        uid: Some(uid),
        ..request("")
    };
    for (request, want) in [
        (
            request("nobody"),
            "user `nobody` (USER of the image): no such user in the image's /etc/passwd",
        ),
        (
            request("app:nogroup"),
            "group `nogroup` (USER of the image): no such group",
        ),
        (
            UserRequest {
                gid: Some(5),
                ..request("app")
            },
            "run_as_group 5 is given without run_as_user",
        ),
        (
            UserRequest {
                username: "who".into(),
                ..request("")
            },
            "user `who` (run_as_username)",
        ),
        (
            UserRequest {
                username: "app:users".into(),
                ..request("")
            },
            "user `app:users`",
        ),
        (uid(-1), "run_as_user -1 is not a valid id"),
        (uid(4294967295), "run_as_user 4294967295 is not a valid id"),
        (
            request("99999999999999999999"),
            "USER of the image 99999999999999999999 is not a valid id",
        ),
        (
            UserRequest {
                gid: Some(-2),
                ..uid(1)
            },
            "run_as_group -2 is not a valid id",
        ),
        (
            UserRequest {
                supplemental_groups: vec![-5],
                ..request("")
            },
            "supplemental_groups -5",
        ),
        (
            UserRequest {
                supplemental_groups: (1..=65536).collect(),
                ..request("")
            },
            "65537 groups, the kernel takes 65536",
        ),
    ] {
        let error = look(&request).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    }
}

#[test]
fn without_files_numbers_and_root_still_work() {
    let none = Accounts::default();
    assert_eq!(lookup(&request(""), &none).unwrap().groups, vec![0]);
    assert_eq!(lookup(&request("5:6"), &none).unwrap().gid, 6);
    assert!(lookup(&request("root"), &none).is_err());
}

fn root_with(prepare: impl FnOnce(&std::path::Path)) -> Result<Accounts, UserError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    prepare(dir.path());
    Accounts::read(std::fs::File::open(dir.path()).unwrap())
}

#[test]
fn links_in_the_image_stay_inside_its_root() {
    let accounts = root_with(|root| {
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/passwd"), "inside:x:1:1::/:\n").unwrap();
        std::os::unix::fs::symlink("/../../real/passwd", root.join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/proc/self/status", root.join("etc/group")).unwrap();
    })
    .unwrap();
    assert_eq!(accounts.passwd, b"inside:x:1:1::/:\n");
    assert_eq!(accounts.group, b"");
}

#[test]
fn a_root_without_the_files_has_no_accounts() {
    assert_eq!(root_with(|_| ()).unwrap(), Accounts::default());
    let flat = root_with(|root| {
        std::fs::remove_dir(root.join("etc")).unwrap();
        std::fs::write(root.join("etc"), "a file").unwrap();
    });
    assert_eq!(flat.unwrap(), Accounts::default());
}

#[test]
fn what_is_no_file_or_too_large_is_refused() {
    let pipe = root_with(|root| {
        nix::unistd::mkfifo(&root.join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    });
    assert!(matches!(
        pipe,
        Err(UserError::NotAFile {
            file: "/etc/passwd"
        })
    ));
    let large = root_with(|root| {
        std::fs::File::create(root.join("etc/group"))
            .unwrap()
            .set_len(MAX_FILE_BYTES + 1)
            .unwrap();
    });
    assert!(matches!(
        large,
        Err(UserError::TooLarge { file: "/etc/group" })
    ));
    let circle = root_with(|root| {
        std::os::unix::fs::symlink("passwd", root.join("etc/passwd")).unwrap();
    });
    assert!(matches!(
        circle,
        Err(UserError::Read {
            file: "/etc/passwd",
            ..
        })
    ));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_lookup_panic(
        passwd in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        group in "[a-z0-9:,\n]{0,200}",
        user in "[a-z0-9:]{0,12}",
    ) {
        let _ = lookup(&request(&user), &Accounts { passwd, group: group.into() });
    }
}
