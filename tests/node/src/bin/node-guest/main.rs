//! What the tests run inside the virtual machine: the agent, and the programs that it starts.

mod agent;

fn main() {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let done = match verb.as_str() {
        "agent" => agent::serve().map_err(|error| format!("agent: {error}")),
        _ => Err(format!("node-guest: no such verb: {verb:?}")),
    };
    if let Err(error) = done {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
