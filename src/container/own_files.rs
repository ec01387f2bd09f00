//! Files that the daemon makes for a container: accounts for an id that the image does not know,
//! the time zone, copies of the node's subscriptions, and /etc/mtab.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::sources::io_error;
use super::{Config, ContainerError};
use crate::security::users::{self, Accounts, User};
use crate::spec::inputs::{Image, OwnFile};

/// Most files that the subscriptions of one container may have, and their bytes together.
const MAX_COPIED_FILES: usize = 256;
const MAX_COPIED_BYTES: u64 = 4 << 20;
/// How deep directories of subscriptions are followed.
const MAX_COPIED_DEPTH: usize = 8;
/// Directory of these files in the bundle.
const DIRECTORY: &str = "files";

/// What the configuration says about such files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFiles {
    /// Content of /etc/localtime; absent leaves it to the image (`timezone`).
    pub localtime: Option<Vec<u8>>,
    /// Files and directories of the node, copied to paths in every container (mounts.conf). One
    /// that is not there is passed over.
    pub subscriptions: Vec<(PathBuf, String)>,
}

/// Who needs them.
#[derive(Debug, Clone, Copy)]
pub(super) struct For<'a> {
    pub(super) bundle: &'a Path,
    pub(super) root: &'a Path,
    pub(super) config: &'a Config,
    pub(super) image: &'a Image,
    pub(super) user: &'a User,
    pub(super) accounts: &'a Accounts,
}

impl NodeFiles {
    /// Makes the files in the bundle, with which they go, and says where to mount them.
    ///
    /// # Errors
    /// When one cannot be written or copied.
    pub(super) fn make(&self, container: For) -> Result<Vec<OwnFile>, ContainerError> {
        if !is_mounted(container.config, "/etc") {
            link_mtab(container.root)?;
        }
        let home = home(container.config, container.image);
        let (user, accounts) = (container.user, container.accounts);
        let made = [
            ("passwd", users::passwd_with(user, accounts, &home)),
            ("group", users::group_with(user, accounts)),
            ("localtime", self.localtime.clone()),
        ];
        let directory = container.bundle.join(DIRECTORY);
        let mut files = Vec::new();
        for (name, text) in made {
            let destination = format!("/etc/{name}");
            let Some(text) = text.filter(|_| !is_mounted(container.config, &destination)) else {
                continue;
            };
            fs::create_dir_all(&directory).map_err(io_error("create", &directory))?;
            let source = directory.join(name);
            fs::write(&source, text).map_err(io_error("write", &source))?;
            files.push(OwnFile {
                destination,
                source,
            });
        }
        let mut budget = Budget::default();
        for (index, (from, destination)) in self.subscriptions.iter().enumerate() {
            let source = directory.join(index.to_string());
            if is_mounted(container.config, destination) || !from.exists() {
                continue;
            }
            fs::create_dir_all(&directory).map_err(io_error("create", &directory))?;
            copy(from, &source, 0, &mut budget)
                .map_err(io_error("copy the default mount", from))?;
            files.push(OwnFile {
                destination: destination.clone(),
                source,
            });
        }
        Ok(files)
    }
}

/// Whether the request has a mount there, or above: what is made here would be hidden.
fn is_mounted(config: &Config, path: &str) -> bool {
    config
        .mounts
        .iter()
        .any(|mount| Path::new(path).starts_with(Path::new("/").join(&mount.container_path)))
}

/// The home that the container's environment names.
fn home(config: &Config, image: &Image) -> String {
    let asked = config.envs.iter().rev().find(|env| env.key == "HOME");
    let asked = asked.and_then(|env| String::from_utf8(env.value.clone()).ok());
    let of_image = || {
        image
            .env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("HOME="))
    };
    asked
        .or_else(|| of_image().map(str::to_owned))
        .unwrap_or_else(|| "/".to_owned())
}

/// mount(8), df and the like read /etc/mtab in old images. One that the image has stays, and no
/// link in it leads out of the root.
fn link_mtab(root: &Path) -> Result<(), ContainerError> {
    let step = io_error("link /etc/mtab in", root);
    let linked = (|| {
        let directory = fs::File::open(root)?;
        let Some(etc) = open_etc(&directory)? else {
            return Ok(());
        };
        match rustix::fs::symlinkat("/proc/mounts", etc, "mtab") {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(io::Error::from(errno)),
        }
    })();
    linked.map_err(step)
}

/// `None`: /etc of the image is no directory.
fn open_etc(root: &fs::File) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = || rustix::fs::openat2(root.as_fd(), "etc", flags, Mode::empty(), inside);
    match open() {
        Ok(etc) => return Ok(Some(etc)),
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    match rustix::fs::mkdirat(root.as_fd(), "etc", Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(Some(open()?)),
        // a symbolic link to nowhere
        Err(Errno::EXIST) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[derive(Default)]
struct Budget {
    files: usize,
    bytes: u64,
}

fn copy(from: &Path, to: &Path, depth: usize, budget: &mut Budget) -> io::Result<()> {
    let facts = fs::metadata(from)?;
    budget.files += 1;
    if budget.files > MAX_COPIED_FILES || depth > MAX_COPIED_DEPTH {
        return Err(io::Error::other(format!(
            "it holds more than {MAX_COPIED_FILES} files, or is deeper than {MAX_COPIED_DEPTH}"
        )));
    }
    if facts.is_dir() {
        fs::create_dir(to)?;
        fs::set_permissions(
            to,
            fs::Permissions::from_mode(facts.permissions().mode() & 0o7777),
        )?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            match copy(&from.join(&name), &to.join(&name), depth + 1, budget) {
                // a link to nowhere
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => copied?,
            }
        }
    } else if facts.is_file() {
        let mut text = Vec::new();
        let left = MAX_COPIED_BYTES - budget.bytes;
        fs::File::open(from)?
            .take(left + 1)
            .read_to_end(&mut text)?;
        budget.bytes += text.len() as u64;
        if budget.bytes > MAX_COPIED_BYTES {
            return Err(io::Error::other(format!(
                "it is larger than {MAX_COPIED_BYTES} bytes"
            )));
        }
        fs::write(to, text)?;
        fs::set_permissions(
            to,
            fs::Permissions::from_mode(facts.permissions().mode() & 0o7777),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::config::{EnvVar, Mount};
    use std::os::unix::fs::symlink;

    struct Scene {
        dir: tempfile::TempDir,
        config: Config,
        image: Image,
        user: User,
        accounts: Accounts,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("root")).unwrap();
            fs::create_dir_all(dir.path().join("bundle")).unwrap();
            Self {
                dir,
                config: Config::default(),
                image: Image::default(),
                user: User {
                    uid: 77,
                    gid: 78,
                    ..User::default()
                },
                accounts: Accounts {
                    passwd: b"root:x:0:0::/root:/bin/sh\n".to_vec(),
                    group: b"root:x:0:\n".to_vec(),
                },
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn make(&self, files: &NodeFiles) -> Result<Vec<(String, PathBuf)>, String> {
            let made = files.make(For {
                bundle: &self.path("bundle"),
                root: &self.path("root"),
                config: &self.config,
                image: &self.image,
                user: &self.user,
                accounts: &self.accounts,
            });
            let made = made.map_err(|error| error.to_string())?;
            Ok(made
                .into_iter()
                .map(|own| (own.destination, own.source))
                .collect())
        }

        fn mount(&mut self, path: &str) {
            let container_path = path.to_owned();
            self.config.mounts.push(Mount {
                container_path,
                ..Mount::default()
            });
        }
    }

    fn names(made: &[(String, PathBuf)]) -> Vec<&str> {
        made.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn accounts_are_made_for_an_unknown_id_unless_the_request_mounts_its_own() {
        let mut scene = Scene::new();
        scene.config.envs = vec![EnvVar {
            key: "HOME".into(),
            value: b"/work".to_vec(),
        }];
        let made = scene.make(&NodeFiles::default()).unwrap();
        assert_eq!(names(&made), ["/etc/passwd", "/etc/group"]);
        let text = fs::read_to_string(&made[0].1).unwrap();
        assert!(
            text.ends_with("77:x:77:78:77 user:/work:/sbin/nologin\n"),
            "{text}"
        );
        for (mounted, want) in [
            ("/etc/passwd", vec!["/etc/group"]),
            ("/etc/", vec![]),
            ("etc", vec![]),
        ] {
            let mut scene = Scene::new();
            scene.mount(mounted);
            assert_eq!(
                names(&scene.make(&NodeFiles::default()).unwrap()),
                want,
                "{mounted}"
            );
        }
        scene.user = User::default();
        assert!(scene.make(&NodeFiles::default()).unwrap().is_empty());
    }

    #[test]
    fn mtab_is_linked_inside_the_root_and_nowhere_else() {
        let scene = Scene::new();
        scene.make(&NodeFiles::default()).unwrap();
        let mtab = scene.path("root/etc/mtab");
        assert_eq!(fs::read_link(&mtab).unwrap(), Path::new("/proc/mounts"));
        scene.make(&NodeFiles::default()).unwrap();

        let scene = Scene::new();
        fs::create_dir(scene.path("outside")).unwrap();
        symlink(scene.path("outside"), scene.path("root/etc")).unwrap();
        scene.make(&NodeFiles::default()).unwrap();
        assert_eq!(fs::read_dir(scene.path("outside")).unwrap().count(), 0);

        let mut scene = Scene::new();
        scene.mount("/etc");
        scene.make(&NodeFiles::default()).unwrap();
        assert!(!scene.path("root/etc").exists());

        let scene = Scene::new();
        fs::write(scene.path("root/etc"), "a file").unwrap();
        scene.make(&NodeFiles::default()).unwrap();
    }

    #[test]
    fn subscriptions_are_copied_with_their_modes_and_a_missing_one_is_passed_over() {
        let scene = Scene::new();
        fs::create_dir_all(scene.path("secrets/deep")).unwrap();
        fs::write(scene.path("secrets/deep/key"), "k").unwrap();
        fs::set_permissions(
            scene.path("secrets/deep/key"),
            fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        symlink("deep/key", scene.path("secrets/link")).unwrap();
        symlink("/nonexistent", scene.path("secrets/gone")).unwrap();
        let files = NodeFiles {
            localtime: Some(b"TZif".to_vec()),
            subscriptions: vec![
                (scene.path("missing"), "/run/missing".into()),
                (scene.path("secrets"), "/run/secrets".into()),
            ],
        };
        let made = scene.make(&files).unwrap();
        assert_eq!(
            names(&made),
            [
                "/etc/passwd",
                "/etc/group",
                "/etc/localtime",
                "/run/secrets"
            ]
        );
        let copied = &made[3].1;
        assert!(copied.starts_with(scene.path("bundle")));
        assert_eq!(fs::read_to_string(copied.join("link")).unwrap(), "k");
        let mode = fs::metadata(copied.join("deep/key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!copied.join("gone").exists());
    }

    #[test]
    fn subscriptions_beyond_the_bound_are_an_error_that_names_them() {
        let scene = Scene::new();
        let big = fs::File::create(scene.path("big")).unwrap();
        big.set_len(MAX_COPIED_BYTES + 1).unwrap();
        let files = NodeFiles {
            subscriptions: vec![(scene.path("big"), "/run/big".into())],
            ..NodeFiles::default()
        };
        let error = scene.make(&files).unwrap_err();
        assert!(error.contains("/big: it is larger than"), "{error}");
    }
}
