//! Account lines for ids that an image does not know: many programs (ssh, git, whoami, Java) want
//! a name and a home for the user they run as, and Kubernetes lets a pod run as any number.

use super::{Accounts, User, account, group_lines};

/// /etc/passwd with a line for the user, as CRI-O writes it. `None`: the file knows the id, or the
/// image has no such file, and then nothing in it looks for one. A `home` that would break out of
/// its field is replaced by `/`: it comes from the request or the image.
pub fn passwd(user: &User, accounts: &Accounts, home: &str) -> Option<Vec<u8>> {
    let text = &accounts.passwd;
    if text.is_empty() || account(text, |known| known.uid == user.uid).is_some() {
        return None;
    }
    let plain = home.starts_with('/') && !home.contains([':', '\n', '\r', '\0']);
    let home = if plain { home } else { "/" };
    let (uid, gid) = (user.uid, user.gid);
    Some(with_line(
        text,
        &format!("{uid}:x:{uid}:{gid}:{uid} user:{home}:/sbin/nologin\n"),
    ))
}

/// /etc/group with a line for the user's primary group, by the same rules.
pub fn group(user: &User, accounts: &Accounts) -> Option<Vec<u8>> {
    let (text, gid) = (&accounts.group, user.gid);
    if text.is_empty() || group_lines(text).any(|(_, known, _)| known == gid) {
        return None;
    }
    Some(with_line(text, &format!("{gid}:x:{gid}:\n")))
}

fn with_line(text: &[u8], line: &str) -> Vec<u8> {
    let mut all = text.to_vec();
    if all.last() != Some(&b'\n') {
        all.push(b'\n');
    }
    all.extend_from_slice(line.as_bytes());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::users::{UserRequest, lookup};

    fn accounts(passwd: &str, group: &str) -> Accounts {
        Accounts {
            passwd: passwd.into(),
            group: group.into(),
        }
    }

    fn user(uid: u32, gid: u32) -> User {
        User {
            uid,
            gid,
            ..User::default()
        }
    }

    #[test]
    fn an_unknown_id_gets_a_line_that_the_lookup_then_finds() {
        let known = accounts("root:x:0:0:root:/root:/bin/sh", "root:x:0:\n");
        let text = passwd(&user(1234, 7), &known, "/work").unwrap();
        let want = "root:x:0:0:root:/root:/bin/sh\n1234:x:1234:7:1234 user:/work:/sbin/nologin\n";
        assert_eq!(String::from_utf8(text.clone()).unwrap(), want);
        let lines = group(&user(1234, 7), &known).unwrap();
        assert_eq!(lines, b"root:x:0:\n7:x:7:\n");
        let made = Accounts {
            passwd: text,
            group: lines,
        };
        let request = UserRequest {
            uid: Some(1234),
            ..UserRequest::default()
        };
        let found = lookup(&request, &made).unwrap();
        assert_eq!((found.gid, found.home.as_deref()), (7, Some("/work")));
    }

    #[test]
    fn what_is_known_or_has_no_file_gets_none() {
        let known = accounts("root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n");
        assert_eq!(
            (passwd(&user(0, 0), &known, "/"), group(&user(9, 0), &known)),
            (None, None)
        );
        let empty = Accounts::default();
        assert_eq!(
            (passwd(&user(9, 9), &empty, "/"), group(&user(9, 9), &empty)),
            (None, None)
        );
    }

    #[test]
    fn no_home_adds_a_second_line() {
        let known = accounts("root:x:0:0:root:/root:/bin/sh\n", "");
        for home in [
            "/x\nevil:x:0:0::/:/bin/sh",
            "/a:b",
            "relative",
            "",
            "/\0",
            "/a\rb",
        ] {
            let text = String::from_utf8(passwd(&user(5, 5), &known, home).unwrap()).unwrap();
            assert!(
                text.ends_with("\n5:x:5:5:5 user:/:/sbin/nologin\n"),
                "{text}"
            );
            assert_eq!(text.lines().count(), 2);
        }
    }
}
