//! AppArmor: the default profile of containers, and which profiles the kernel has.
//!
//! Profiles are text that `apparmor_parser` compiles and loads; the kernel takes the compiled form
//! alone. Which are loaded it tells in securityfs. Putting one on a process is the OCI runtime's
//! part.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

mod parser;

use parser::PROGRAM as PARSER;

/// Where securityfs shows AppArmor.
pub const KERNEL: &str = "/sys/kernel/security/apparmor";
/// The profile that the daemon brings along.
pub const DEFAULT: &str = "crio-default";
/// The key of crio.conf that says which profile is the default.
pub const KEY: &str = "apparmor_profile";
/// The word for no profile.
pub const UNCONFINED: &str = "unconfined";

/// The most that is read of the kernel's list; a profile has a line of some dozen bytes.
const MAX_LIST_BYTES: u64 = 4 << 20;
/// The longest name of a profile.
const MAX_NAME_BYTES: usize = 4096;

/// The default profile. It takes away what a container has no use for and what has been a way out
/// of one: writing kernel settings in /proc and /sys, mounting, tracing others, raw memory.
const PROFILE: &str = include_str!("../../contrib/apparmor/crio-default");

/// What can be wrong with profiles.
#[derive(Debug, thiserror::Error)]
pub enum AppArmorError {
    /// The compiler is not there.
    #[error(
        "AppArmor profile {DEFAULT}: it is not loaded and {PARSER} is not in $PATH; install it \
         (package apparmor) and reload cricket, or set apparmor_profile = \"unconfined\" or to a \
         profile that is loaded"
    )]
    NoParser,
    /// The compiler did not take the profile.
    #[error("AppArmor profile {DEFAULT}: {PARSER}: {problem}")]
    Parser {
        /// What it said.
        problem: String,
    },
    /// A profile that the kernel does not have.
    #[error(
        "{field}: AppArmor profile `{name}` is not loaded on this node ({} does not list it); \
         load it with {PARSER}", list.display()
    )]
    NotLoaded {
        /// The CRI field or the key of crio.conf.
        field: &'static str,
        /// The profile.
        name: String,
        /// The kernel's list.
        list: PathBuf,
    },
    /// A text that is no name.
    #[error("{field}: `{name}` is not the name of an AppArmor profile")]
    Name {
        /// The CRI field or the key of crio.conf.
        field: &'static str,
        /// As sent, cut to a length that can be shown.
        name: String,
    },
    /// The kernel's list cannot be read.
    #[error("read {}: {source}", list.display())]
    List {
        /// The kernel's list.
        list: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// AppArmor on this node.
#[derive(Clone, Debug)]
pub struct AppArmor {
    kernel: PathBuf,
    /// The compiler, by name or path.
    parser: String,
}

impl AppArmor {
    /// What [`KERNEL`], or a directory of that shape, shows.
    pub fn at(kernel: &Path) -> Self {
        Self {
            kernel: kernel.to_owned(),
            parser: PARSER.to_owned(),
        }
    }

    /// Makes sure that the configured profile (`apparmor_profile`) is loaded and returns its name:
    /// ours is compiled and loaded anew, so that an upgrade of the daemon brings its own; another
    /// must be there. `None`: containers that name no profile are unconfined. So they are, with a
    /// warning, where ours is not there and neither is the compiler: a node without it starts with
    /// CRI-O too. Blocks.
    ///
    /// # Errors
    /// When the profile is not there, or ours does not compile.
    pub fn prepare(&self, profile: &str) -> Result<Option<String>, AppArmorError> {
        match profile {
            UNCONFINED => return Ok(None),
            "" | DEFAULT => match self.load_default() {
                Err(missing @ AppArmorError::NoParser) => match self.check(KEY, DEFAULT) {
                    Err(AppArmorError::NotLoaded { .. }) => {
                        tracing::warn!("containers run without an AppArmor profile: {missing}");
                        return Ok(None);
                    }
                    checked => {
                        checked?;
                        tracing::info!(
                            profile = DEFAULT,
                            "the AppArmor profile that is loaded is taken: no {PARSER} in $PATH"
                        );
                    }
                },
                loaded => loaded?,
            },
            other => self.check(KEY, other)?,
        }
        let name = if profile.is_empty() { DEFAULT } else { profile };
        Ok(Some(name.to_owned()))
    }

    /// What [`prepare`](Self::prepare) would find, without loading anything. Blocks.
    ///
    /// # Errors
    /// When the profile is neither there nor can be loaded.
    pub fn look(&self, profile: &str) -> Result<(), AppArmorError> {
        match profile {
            UNCONFINED => Ok(()),
            "" | DEFAULT if parser::is_there(&self.parser) => Ok(()),
            "" | DEFAULT => match self.check(KEY, DEFAULT) {
                Err(AppArmorError::NotLoaded { .. }) => Err(AppArmorError::NoParser),
                checked => checked,
            },
            other => self.check(KEY, other),
        }
    }

    /// Sees that the kernel has a profile that a container is to get: reads the kernel's list, for
    /// profiles come and go. Ours is loaded again when somebody has unloaded it, which
    /// `aa-teardown` does. Blocks.
    ///
    /// # Errors
    /// When the profile is not there and cannot be loaded, or the text is no name.
    pub fn ensure(&self, field: &'static str, name: &str) -> Result<(), AppArmorError> {
        match self.check(field, name) {
            Err(AppArmorError::NotLoaded { .. }) if name == DEFAULT => {
                self.load_default()?;
                tracing::warn!(
                    profile = name,
                    "the AppArmor profile was unloaded; loaded again"
                );
                Ok(())
            }
            checked => checked,
        }
    }

    /// Compiles and loads the default profile, over an older one of its name.
    fn load_default(&self) -> Result<(), AppArmorError> {
        parser::load(&self.parser, PROFILE, parser::DEADLINE)
    }

    fn check(&self, field: &'static str, name: &str) -> Result<(), AppArmorError> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(['\0', '\n']) {
            let name: String = name.chars().take(128).collect();
            return Err(AppArmorError::Name {
                field,
                name: name.escape_debug().to_string(),
            });
        }
        let list = self.kernel.join("profiles");
        let fault = |source| AppArmorError::List {
            list: list.clone(),
            source,
        };
        let file = fs::File::open(&list).map_err(fault)?;
        for line in BufReader::new(file.take(MAX_LIST_BYTES)).split(b'\n') {
            // `name (mode)`; a name may have spaces
            let line = line.map_err(fault)?;
            let known = line.windows(2).rposition(|two| two == b" (");
            if known.map(|end| &line[..end]) == Some(name.as_bytes()) {
                return Ok(());
            }
        }
        Err(AppArmorError::NotLoaded {
            field,
            name: name.to_owned(),
            list,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(list: &str) -> (tempfile::TempDir, AppArmor) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("profiles"), list).unwrap();
        let apparmor = AppArmor::at(dir.path());
        (dir, apparmor)
    }

    #[test]
    fn a_profile_is_known_by_its_whole_name() {
        let (_dir, node) =
            node("crio-default (enforce)\nmy profile (complain)\n/usr/bin/x//y (kill)\n");
        for (name, want) in [
            ("crio-default", ""),
            ("my profile", ""),
            ("/usr/bin/x//y", ""),
            ("crio", "`crio` is not loaded on this node"),
            ("my profile (complain)", "is not loaded"),
            ("", "is not the name"),
            ("a\nb", "`a\\nb` is not the name"),
            ("a\0", "is not the name"),
        ] {
            match node.check("security_context.apparmor", name) {
                Ok(()) => assert_eq!(want, "", "{name}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.starts_with("security_context.apparmor: "), "{error}");
                    assert!(!want.is_empty() && error.contains(want), "{error}");
                }
            }
        }
        assert!(
            node.check("f", &"x".repeat(5000))
                .unwrap_err()
                .to_string()
                .len()
                < 300
        );
    }

    #[test]
    fn the_configured_profile_is_there_or_the_key_is_named() {
        let (_dir, node) = node("mine (enforce)\n");
        assert_eq!(node.prepare("unconfined").unwrap(), None);
        assert_eq!(node.prepare("mine").unwrap().as_deref(), Some("mine"));
        let error = node.prepare("theirs").unwrap_err().to_string();
        assert!(
            error.starts_with("apparmor_profile: ") && error.contains("`theirs`"),
            "{error}"
        );
        let gone = AppArmor::at(Path::new("/nonexistent-apparmor"));
        assert!(
            gone.check("f", "mine")
                .unwrap_err()
                .to_string()
                .contains("/nonexistent-apparmor/profiles")
        );
    }

    #[test]
    fn without_the_compiler_containers_are_unconfined_unless_the_profile_is_there() {
        let without_parser = |list: &str| {
            let (dir, mut node) = node(list);
            node.parser = "/nonexistent/apparmor_parser".to_owned();
            (dir, node)
        };
        let (_dir, bare) = without_parser("mine (enforce)\n");
        for ours in ["", DEFAULT] {
            assert_eq!(bare.prepare(ours).unwrap(), None);
            let said = bare.look(ours).unwrap_err().to_string();
            assert!(said.contains("(package apparmor)"), "{said}");
        }
        // A profile that somebody else has loaded needs no compiler, as the default or by request.
        assert_eq!(bare.prepare("mine").unwrap().as_deref(), Some("mine"));
        bare.look("mine").unwrap();
        bare.ensure("f", "mine").unwrap();
        // A container that names one does not run without it.
        for (name, want) in [
            ("theirs", "`theirs` is not loaded on this node"),
            (DEFAULT, "(package apparmor)"),
        ] {
            let said = bare.ensure("f", name).unwrap_err().to_string();
            assert!(said.contains(want), "{said}");
        }
        assert!(bare.prepare("theirs").is_err() && bare.look("theirs").is_err());

        let (_dir, loaded) = without_parser("crio-default (enforce)\n");
        assert_eq!(loaded.prepare("").unwrap().as_deref(), Some(DEFAULT));
        loaded.look("").unwrap();
    }

    #[test]
    fn the_default_profile_stands_in_one_pipe_and_has_its_name() {
        assert!(PROFILE.contains("profile crio-default "));
        // The least that the kernel gives a pipe.
        assert!(PROFILE.len() < 4096, "{}", PROFILE.len());
    }

    /// The rules by which containers/common's profile, CRI-O's, takes writing away; see the comments
    /// of its template for the patterns.
    #[test]
    fn what_the_default_profile_of_cri_o_denies_ours_denies() {
        let rules: Vec<&str> = PROFILE.lines().map(str::trim).collect();
        for rule in [
            "deny @{PROC}/* w,",
            "deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,",
            "deny @{PROC}/sys/[^k]** w,",
            "deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,",
            "deny @{PROC}/sysrq-trigger rwklx,",
            "deny @{PROC}/kcore rwklx,",
            "deny mount,",
            "deny /sys/[^f]*/** wklx,",
            "deny /sys/f[^s]*/** wklx,",
            "deny /sys/fs/[^c]*/** wklx,",
            "deny /sys/fs/c[^g]*/** wklx,",
            "deny /sys/fs/cg[^r]*/** wklx,",
            "deny /sys/firmware/** rwklx,",
            "deny /sys/kernel/security/** rwklx,",
        ] {
            assert!(rules.contains(&rule), "{rule}");
        }
    }

    #[test]
    fn only_ours_is_loaded_when_it_is_missing() {
        let (_dir, node) = node("mine (enforce)\n");
        node.ensure("f", "mine").unwrap();
        let error = node.ensure("f", "theirs").unwrap_err().to_string();
        assert!(error.contains("`theirs` is not loaded"), "{error}");
    }
}
