//! Putting the configuration together: defaults, file, drop-ins, variables, flags, in this order.

use std::path::Path;

use super::choice::CgroupManager;
use super::document::{self, Findings};
use super::error::ConfigError;
use super::place::{Origin, Origins, Problem};
use super::schema::Table;
use super::sources::Sources;
use super::tables::{Config, Options, handler};
use super::value::Input;
use super::{check, files, programs};

/// A configuration that has passed all checks.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What only flags and variables can say.
    pub options: Options,
    /// What was found odd but does not stop the daemon: unknown keys, keys without effect.
    pub warnings: Vec<Problem>,
    /// Who set what.
    pub origins: Origins,
    /// What the configuration was made of.
    pub sources: Sources,
}

/// Loads and checks the configuration. All problems of all files are in the error, not only the
/// first.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut origins = Origins::default();
    let mut findings = Findings::default();
    let mut config = Config::default();
    let mut options = Options::default();

    apply_texts(
        &mut options,
        "options",
        sources,
        &mut origins,
        &mut findings,
    );
    if !findings.errors.is_empty() {
        return Err(ConfigError::Invalid(findings.errors));
    }
    read_file(&mut config, &options, &mut origins, &mut findings)?;
    read_drop_ins(&mut config, &options, &mut origins, &mut findings)?;
    apply_texts(&mut config, "crio", sources, &mut origins, &mut findings);
    apply_runtimes(&mut config, &options, &mut origins, &mut findings);
    choose_default(&mut config, &mut origins, sources);
    choose_manager(&mut config, &mut origins, sources);
    choose_selinux(&mut config, &mut origins, sources);

    check::whole(&config, &origins, &mut findings);
    check::without_effect(&config, &Config::default(), "crio", &origins, &mut findings);
    check::without_effect(
        &options,
        &Options::default(),
        "options",
        &origins,
        &mut findings,
    );
    let Findings { errors, warnings } = findings;
    if !errors.is_empty() {
        return Err(ConfigError::Invalid(errors));
    }
    Ok(Loaded {
        config,
        options,
        warnings,
        origins,
        sources: sources.clone(),
    })
}

/// The main file, which may be missing unless somebody named it.
fn read_file(
    config: &mut Config,
    options: &Options,
    origins: &mut Origins,
    findings: &mut Findings,
) -> Result<(), ConfigError> {
    if options.config.is_empty() {
        return Ok(());
    }
    let path = Path::new(&options.config);
    match files::read(path)? {
        Some(text) => document::apply(config, path, &text, origins, findings),
        None if origins.is_default("options.config") => {}
        None => {
            let by = origins.of("options.config").to_string();
            return Err(ConfigError::Missing {
                path: path.to_owned(),
                by,
            });
        }
    }
    Ok(())
}

fn read_drop_ins(
    config: &mut Config,
    options: &Options,
    origins: &mut Origins,
    findings: &mut Findings,
) -> Result<(), ConfigError> {
    if options.config_dir.is_empty() {
        return Ok(());
    }
    let dir = Path::new(&options.config_dir);
    let Some(drop_ins) = files::drop_ins(dir)? else {
        // CRI-O says nothing, and a misspelt directory is a configuration that is not applied.
        if !origins.is_default("options.config_dir") {
            let origin = origins.of("options.config_dir").clone();
            let text = format!("{}: no such directory, no drop-ins are read", dir.display());
            findings.warnings.push(Problem::new(origin, text));
        }
        return Ok(());
    };
    for path in drop_ins {
        if let Some(text) = files::read(&path)? {
            document::apply(config, &path, &text, origins, findings);
        }
    }
    Ok(())
}

/// Applies variables, then flags, to a table and those below it.
fn apply_texts(
    table: &mut dyn Table,
    path: &str,
    sources: &Sources,
    origins: &mut Origins,
    findings: &mut Findings,
) {
    for key in table.keys() {
        // An empty variable counts as unset, as a unit's EnvironmentFile often has them.
        let variable = sources
            .variables
            .get(key.env)
            .filter(|text| !text.is_empty());
        let variable = variable.map(|text| (Origin::Variable(key.env), vec![text.clone()]));
        let flag = sources.flags.get(key.flag).filter(|_| !key.flag.is_empty());
        let flag = flag.map(|texts| (Origin::Flag(key.flag), texts.clone()));
        for (origin, texts) in variable.into_iter().chain(flag) {
            match table.set(key.name, &Input::Text(&texts)) {
                Some(Err(reason)) => findings.errors.push(Problem::new(origin, reason.text)),
                Some(Ok(())) => origins.set(format!("{path}.{}", key.name), origin),
                None => {}
            }
        }
    }
    let children: Vec<String> = table.children().into_iter().map(|(name, _)| name).collect();
    let is_map = table.example_child().is_some();
    for name in children.iter().filter(|_| !is_map) {
        if let Some(child) = table.child_mut(name) {
            apply_texts(child, &format!("{path}.{name}"), sources, origins, findings);
        }
    }
}

/// Adds the handlers of `--runtimes`.
fn apply_runtimes(
    config: &mut Config,
    options: &Options,
    origins: &mut Origins,
    findings: &mut Findings,
) {
    let origin = origins.of("options.runtimes").clone();
    for (index, flag) in options.runtimes.iter().enumerate() {
        if options.runtimes[..index]
            .iter()
            .any(|one| one.name == flag.name)
        {
            let text = format!("there are two runtime handlers `{}`", flag.name);
            findings.errors.push(Problem::new(origin.clone(), text));
        }
        let path = format!("crio.runtime.runtimes.{}", flag.name);
        origins.forget_below(&path);
        for key in ["runtime_path", "runtime_root"] {
            origins.set(format!("{path}.{key}"), origin.clone());
        }
        config
            .runtime
            .runtimes
            .insert(flag.name.clone(), flag.handler.clone());
    }
}

/// Takes runc as default when crun, the built-in default, is not on this machine and runc is.
fn choose_default(config: &mut Config, origins: &mut Origins, sources: &Sources) {
    const KEY: &str = "crio.runtime.default_runtime";
    let configured = &config.runtime.runtimes;
    if !origins.is_default(KEY) || configured.contains_key(handler::DEFAULT) {
        return;
    }
    let installed = |name: &str| programs::search(name, sources).is_some();
    if !installed(handler::DEFAULT) && (configured.contains_key("runc") || installed("runc")) {
        config.runtime.default_runtime = "runc".to_owned();
        origins.set(
            KEY.to_owned(),
            Origin::Machine("crun is not installed and runc is"),
        );
    }
}

/// CRI-O's default is systemd; a host without it must start all the same.
fn choose_manager(config: &mut Config, origins: &mut Origins, sources: &Sources) {
    const KEY: &str = "crio.runtime.cgroup_manager";
    if origins.is_default(KEY) && !sources.systemd {
        config.runtime.cgroup_manager = CgroupManager::Cgroupfs;
        origins.set(
            KEY.to_owned(),
            Origin::Machine("systemd does not run this host"),
        );
    }
}

/// CRI-O's default is what the kernel says: pods are not to share a label where labels count.
fn choose_selinux(config: &mut Config, origins: &mut Origins, sources: &Sources) {
    const KEY: &str = "crio.runtime.selinux";
    if origins.is_default(KEY) && sources.selinux {
        config.runtime.selinux = true;
        origins.set(KEY.to_owned(), Origin::Machine("its kernel has SELinux on"));
    }
}
