//! The `hooks` section: those of the node's hook files, then those that CDI devices bring.

use oci_spec::runtime::{Hook, Spec};

use crate::hooks::HookStep;

/// Adds hooks behind those that are there, each at its step, in their order.
// `prestart` is deprecated and asked for by the specifications of many vendors.
#[allow(deprecated)]
pub(super) fn add(spec: &mut Spec, more: &[(HookStep, Hook)]) {
    if more.is_empty() {
        return;
    }
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    let join = |known: &Option<Vec<Hook>>, step: HookStep| {
        let of_step = more.iter().filter(|(known, _)| *known == step);
        let mut all = known.clone().unwrap_or_default();
        all.extend(of_step.map(|(_, hook)| hook.clone()));
        Some(all).filter(|hooks| !hooks.is_empty())
    };
    hooks.set_prestart(join(hooks.prestart(), HookStep::Prestart));
    hooks.set_create_runtime(join(hooks.create_runtime(), HookStep::CreateRuntime));
    hooks.set_create_container(join(hooks.create_container(), HookStep::CreateContainer));
    hooks.set_start_container(join(hooks.start_container(), HookStep::StartContainer));
    hooks.set_poststart(join(hooks.poststart(), HookStep::Poststart));
    hooks.set_poststop(join(hooks.poststop(), HookStep::Poststop));
    spec.set_hooks(Some(hooks));
}
