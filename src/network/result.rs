//! What plugins answer: results of CNI 0.1.0 to 1.1.0, their common newest form, and the
//! addresses a pod has by them.
//!
//! A result is checked once, when it arrives. What goes to the next plugin, and into the cache,
//! is the document as it came, unknown fields included.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::version::CniVersion;

/// A plugin's result, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PluginResult {
    version: CniVersion,
    document: Map<String, Value>,
}

impl PluginResult {
    /// Reads and checks a result. Without a `cniVersion` it is in the network's version.
    pub(super) fn parse(bytes: &[u8], spoken: CniVersion) -> Result<Self, String> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err("it is empty".to_owned());
        }
        let document: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| format!("it is not a JSON object: {e}"))?;
        Self::from_document(document, spoken)
    }

    /// The same, of a document that is already read.
    pub(super) fn from_document(
        mut document: Map<String, Value>,
        spoken: CniVersion,
    ) -> Result<Self, String> {
        let version = match document.get("cniVersion") {
            None | Some(Value::Null) => spoken,
            Some(Value::String(text)) if text.is_empty() => spoken,
            Some(Value::String(text)) => text.parse()?,
            Some(other) => return Err(format!("cniVersion: {other} is not a string")),
        };
        if version > CniVersion::NEWEST {
            return Err(format!(
                "it is in CNI version {version}, newer than {}",
                CniVersion::NEWEST
            ));
        }
        document.insert("cniVersion".into(), version.to_string().into());
        let result = Self { version, document };
        result.check()?;
        Ok(result)
    }

    /// The document as the plugin gave it, for the next plugin and the cache.
    pub(super) fn document(&self) -> &Map<String, Value> {
        &self.document
    }

    /// The result in a 1.x form.
    pub(super) fn upgraded(&self) -> Value {
        if self.version >= CniVersion::V1 {
            return Value::Object(self.document.clone());
        }
        let mut new = self.document.clone();
        new.insert("cniVersion".into(), CniVersion::V1.to_string().into());
        if self.version >= CniVersion::WITH_INTERFACES {
            for ip in new
                .get_mut("ips")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                ip.as_object_mut().map(|ip| ip.shift_remove("version"));
            }
            return Value::Object(new);
        }
        let (mut ips, mut routes) = (Vec::new(), Vec::new());
        for family in ["ip4", "ip6"] {
            let Some(Value::Object(mut old)) = new.shift_remove(family) else {
                continue;
            };
            let mut ip = json!({"address": old.get("ip")});
            if let Some(gateway) = old.get("gateway").filter(|g| !g.is_null()) {
                ip["gateway"] = gateway.clone();
            }
            ips.push(ip);
            if let Some(Value::Array(more)) = old.shift_remove("routes") {
                routes.extend(more);
            }
        }
        new.insert("ips".into(), ips.into());
        new.insert("routes".into(), routes.into());
        Value::Object(new)
    }

    /// The pod's addresses: those of `interface` inside the pod, and those that name no
    /// interface. Where there are none, all that lie inside the pod: some plugins name their
    /// interface themselves.
    pub(super) fn ips(&self, interface: &str) -> Vec<IpAddr> {
        let addresses = addresses_of(&self.upgraded(), interface);
        addresses.into_iter().map(|(ip, _)| ip).collect()
    }

    /// Everything that is used later must be of the right type.
    fn check(&self) -> Result<(), String> {
        if self.version < CniVersion::WITH_INTERFACES {
            return ["ip4", "ip6"].into_iter().try_for_each(|family| {
                match self.document.get(family) {
                    None | Some(Value::Null) => Ok(()),
                    Some(ip @ Value::Object(_)) => {
                        check_address(ip.get("ip"), &format!("{family}.ip"))?;
                        check_list(ip.get("routes"), &format!("{family}.routes")).map(drop)
                    }
                    Some(_) => Err(format!("{family}: is not an object")),
                }
            });
        }
        let interfaces = check_list(self.document.get("interfaces"), "interfaces")?;
        for (i, interface) in interfaces.iter().enumerate() {
            for key in ["name", "sandbox"] {
                if interface
                    .get(key)
                    .is_some_and(|v| !v.is_string() && !v.is_null())
                {
                    return Err(format!("interfaces[{i}].{key}: is not a string"));
                }
            }
        }
        for (i, ip) in check_list(self.document.get("ips"), "ips")?
            .iter()
            .enumerate()
        {
            check_address(ip.get("address"), &format!("ips[{i}].address"))?;
            match ip.get("interface") {
                None | Some(Value::Null) => {}
                Some(index) if index.as_u64().is_some_and(|n| n < interfaces.len() as u64) => {}
                Some(index) => {
                    return Err(format!(
                        "ips[{i}].interface: {index} is not the number of one of its {} interfaces",
                        interfaces.len()
                    ));
                }
            }
        }
        check_list(self.document.get("routes"), "routes").map(drop)
    }
}

/// The addresses of [`PluginResult::ips`] with the bits that are their network's, from a result in a
/// 1.x form.
pub(super) fn addresses_of(result: &Value, interface: &str) -> Vec<(IpAddr, u8)> {
    let interfaces = array(result, "interfaces");
    let inside: Vec<((IpAddr, u8), Option<&str>)> = array(result, "ips")
        .iter()
        .filter_map(|ip| {
            let address = parse_cidr(ip.get("address")?.as_str()?).ok()?;
            let Some(index) = ip.get("interface").and_then(Value::as_u64) else {
                return Some((address, None));
            };
            let link = interfaces.get(usize::try_from(index).ok()?)?;
            let sandbox = link
                .get("sandbox")
                .and_then(Value::as_str)
                .unwrap_or_default();
            (!sandbox.is_empty()).then(|| (address, link.get("name").and_then(Value::as_str)))
        })
        .collect();
    let is_named = |name: &Option<&str>| name.is_none_or(|name| name == interface);
    let any_named = inside.iter().any(|(_, name)| is_named(name));
    let wanted = inside
        .into_iter()
        .filter(|(_, name)| !any_named || is_named(name));
    wanted.map(|(address, _)| address).collect()
}

fn array<'a>(document: &'a Value, key: &str) -> &'a [Value] {
    document
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A list of objects, which may be missing.
fn check_list<'a>(value: Option<&'a Value>, place: &str) -> Result<&'a [Value], String> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => Ok(items),
        Some(_) => Err(format!("{place}: is not a list of objects")),
    }
}

fn check_address(value: Option<&Value>, place: &str) -> Result<(), String> {
    match value.and_then(Value::as_str) {
        None => Err(format!("{place}: is missing or not a string")),
        Some(text) => parse_cidr(text)
            .map(drop)
            .map_err(|problem| format!("{place}: {problem}")),
    }
}

/// Address and prefix length of a CIDR such as `10.0.0.7/24`.
fn parse_cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let parse = || {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse::<u8>().ok()?;
        (prefix <= most).then_some((address, prefix))
    };
    parse().ok_or_else(|| format!("{text:?} is not an address with a prefix length"))
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
