//! SIGHUP: the configuration is read again, and what can change while pods run takes effect.
//!
//! Everything is checked before anything changes: a mistake in crio.conf, in registries.conf or in a
//! profile leaves all as it was, and the log says why. Keys that only a restart takes up are named
//! there too.

use std::sync::Arc;

use tokio::signal::unix::Signal;

use super::{DaemonError, House, host, security, service, settings};
use crate::config::{self, Config, ConfigError, Loaded};
use crate::container::Profiles;
use crate::cri::{Shown, Texts};
use crate::runtime::{Handlers, KnownHandlers};
use crate::sys::blocking;
use crate::telemetry;

/// What a reload needs.
#[derive(Debug)]
pub(super) struct Reloader {
    /// What is in effect.
    pub loaded: Loaded,
    pub house: House,
    pub level: telemetry::Level,
    pub shown: Arc<Shown>,
}

/// What has been read and checked, and is to be taken up.
struct Prepared {
    /// The configuration that is in effect afterwards.
    loaded: Loaded,
    /// Keys that have changed and are not live.
    restart: Vec<String>,
    profiles: Profiles,
    /// The names of the handlers.
    usable: Vec<String>,
    handlers: KnownHandlers,
}

impl Reloader {
    /// Reloads at every SIGHUP, for as long as it is polled.
    pub(super) async fn run(mut self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            tracing::info!("SIGHUP: reading the configuration again");
            service::reloading();
            let refused = self.reload().await.err();
            if let Some(error) = &refused {
                tell(error);
            }
            let reason = refused.map(|error| error.to_string());
            service::reloaded(&self.loaded.config.api.listen, reason.as_deref());
        }
    }

    async fn reload(&mut self) -> Result<(), DaemonError> {
        let sources = self.loaded.sources.clone();
        let new = blocking(move || config::load(&sources).map_err(DaemonError::from)).await?;
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        let prepared = self.prepare(new).await?;
        let images = Arc::clone(&self.house.images);
        let registries = settings::registries(&prepared.loaded);
        // the last step that can fail, and one that changes nothing then
        blocking(move || images.reload_registries(registries)).await?;
        self.take_up(prepared);
        Ok(())
    }

    async fn prepare(&self, new: Loaded) -> Result<Prepared, DaemonError> {
        let before = &self.loaded.config;
        let config = with_live_keys(before, &new.config);
        let restart = config::changed(&config, &new.config);
        let loaded = Loaded { config, ..new };
        let kernel = host::Kernel::facts();
        let (loaded, profiles, found) = blocking(move || {
            let (found, handler_seccomp) = security::handlers(&loaded, &kernel)?;
            for warning in &found.warnings {
                tracing::warn!("{warning}");
            }
            let (_, apparmor) = security::apparmor(&loaded.config, &kernel)?;
            let profiles = security::profiles(&loaded.config, &kernel, handler_seccomp, apparmor)?;
            Ok::<_, DaemonError>((loaded, profiles, found))
        })
        .await?;
        for vain in settings::vain_annotations(&loaded.config) {
            tracing::warn!("{vain}");
        }
        let usable = found.ready.iter().map(|ready| ready.name.clone()).collect();
        let handlers = handlers(&loaded, &self.house, found, kernel.version).await?;
        Ok(Prepared {
            loaded,
            restart,
            profiles,
            usable,
            handlers,
        })
    }

    fn take_up(&mut self, prepared: Prepared) {
        let config = &prepared.loaded.config;
        let House {
            images,
            handlers,
            containers,
            ..
        } = &self.house;
        // first, so that what follows is shown or not as it says
        self.level
            .set(telemetry::level(config.runtime.log_level.as_str()));
        images.pin(settings::pinned(config));
        containers.set_profiles(prepared.profiles, &prepared.usable);
        containers.set_cdi_dirs(config.runtime.cdi_spec_dirs.clone());
        handlers.replace(prepared.handlers);
        self.shown.replace(texts(&prepared.loaded));
        let changed = config::changed(&self.loaded.config, config);
        tracing::info!(changed = changed.join(", "), "configuration reloaded");
        if !prepared.restart.is_empty() {
            tracing::warn!(
                keys = prepared.restart.join(", "),
                "changed in the configuration, but without effect until the daemon is restarted; \
                 containers go on meanwhile"
            );
        }
        self.loaded = prepared.loaded;
    }
}

/// Says why nothing has changed: each mistake in a line of its own.
fn tell(error: &DaemonError) {
    const OUTCOME: &str = "configuration not reloaded, everything is as before";
    match error {
        DaemonError::Config(ConfigError::Invalid(problems)) => {
            for problem in problems {
                tracing::error!("{OUTCOME}: {problem}");
            }
        }
        error => tracing::error!("{OUTCOME}: {error}"),
    }
}

/// The configuration that is in effect when the keys that can change while the daemon runs have been
/// taken over from `new`. This is the one place that says which they are.
fn with_live_keys(before: &Config, new: &Config) -> Config {
    let mut config = before.clone();
    let (image, runtime) = (&mut config.image, &mut config.runtime);
    image.pinned_images.clone_from(&new.image.pinned_images);
    image.pause_image.clone_from(&new.image.pause_image);
    image.registries.clone_from(&new.image.registries);
    image.short_name_mode = new.image.short_name_mode;
    image.auto_reload_registries = new.image.auto_reload_registries;
    runtime.log_level = new.runtime.log_level;
    runtime
        .seccomp_profile
        .clone_from(&new.runtime.seccomp_profile);
    runtime
        .privileged_seccomp_profile
        .clone_from(&new.runtime.privileged_seccomp_profile);
    runtime
        .apparmor_profile
        .clone_from(&new.runtime.apparmor_profile);
    runtime.cdi_spec_dirs.clone_from(&new.runtime.cdi_spec_dirs);
    // where a monitor can go depends on who makes the cgroups
    if runtime.cgroup_manager == new.runtime.cgroup_manager {
        runtime.runtimes.clone_from(&new.runtime.runtimes);
        runtime
            .default_runtime
            .clone_from(&new.runtime.default_runtime);
    }
    config
}

/// The handlers of a configuration, each asked what it can do.
///
/// # Errors
/// When the default is not among them.
async fn handlers(
    loaded: &Loaded,
    house: &House,
    found: config::Handlers,
    kernel: (u32, u32),
) -> Result<KnownHandlers, DaemonError> {
    let ready = found.ready.into_iter();
    let ready = ready.map(|ready| settings::handler(ready, &loaded.config, house.manager));
    Ok(Handlers::ask(found.default, ready.collect(), kernel).await?)
}

/// The configuration as it is shown.
pub(super) fn texts(loaded: &Loaded) -> Texts {
    let mut json = serde_json::to_value(&loaded.config).unwrap_or_default();
    if let Some(object) = json.as_object_mut() {
        // Where kubeadm looks for it, to compare it with its own (CRI-O has it there too).
        let pause = loaded.config.image.pause_image.as_str();
        object.insert("sandboxImage".into(), pause.into());
    }
    Texts {
        json: json.to_string(),
        toml: config::effective_file(loaded).into(),
        pause_image: loaded.config.image.pause_image.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogLevel, ShortNameMode, changed};

    /// A key, and a change of it.
    type Row = (&'static str, fn(&mut Config));

    const LIVE: [Row; 12] = [
        ("image.auto_reload_registries", |config| {
            config.image.auto_reload_registries = !config.image.auto_reload_registries;
        }),
        ("image.pause_image", |config| {
            config.image.pause_image.push('x')
        }),
        ("image.pinned_images", |config| {
            config.image.pinned_images.push("x".into())
        }),
        ("image.registries", |config| {
            config.image.registries.push("x.io".into())
        }),
        ("image.short_name_mode", |config| {
            config.image.short_name_mode = ShortNameMode::Disabled;
        }),
        ("runtime.apparmor_profile", |config| {
            config.runtime.apparmor_profile.push('x')
        }),
        ("runtime.cdi_spec_dirs", |config| {
            config.runtime.cdi_spec_dirs.push("/x".into())
        }),
        ("runtime.default_runtime", |config| {
            config.runtime.default_runtime.push('x')
        }),
        ("runtime.log_level", |config| {
            config.runtime.log_level = LogLevel::Trace
        }),
        ("runtime.privileged_seccomp_profile", |config| {
            config.runtime.privileged_seccomp_profile = Some("/x".into());
        }),
        ("runtime.runtimes", |config| {
            config
                .runtime
                .runtimes
                .insert("x".into(), Default::default());
        }),
        ("runtime.seccomp_profile", |config| {
            config.runtime.seccomp_profile = Some("/x".into());
        }),
    ];

    #[test]
    fn the_live_keys_are_those_that_the_documentation_names() {
        let before = Config::default();
        for (key, change) in LIVE {
            let mut new = before.clone();
            change(&mut new);
            let live = with_live_keys(&before, &new);
            assert_eq!(
                changed(&live, &new),
                Vec::<String>::new(),
                "{key} needs a restart"
            );
            let found = changed(&before, &live);
            let key = format!("crio.{key}");
            assert!(
                found.len() == 1 && found[0].starts_with(&key),
                "{key}: {found:?}"
            );
        }
        let text = include_str!("../../docs/reload.md");
        let named = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `crio."));
        let named: Vec<&str> = named.filter_map(|line| line.split('`').next()).collect();
        assert_eq!(named, LIVE.map(|(key, _)| key));
    }

    #[test]
    fn another_policy_file_and_all_else_wait_for_a_restart() {
        let before = Config::default();
        let mut new = before.clone();
        new.image.signature_policy = Some("/x".into());
        new.image.image_archives_dir = Some("/x".into());
        new.root = "/x".into();
        let live = with_live_keys(&before, &new);
        assert_eq!(changed(&before, &live), Vec::<String>::new());
        assert_eq!(changed(&live, &new).len(), 3);
    }
}
