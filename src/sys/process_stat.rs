//! The text of `/proc/<pid>/stat`.

/// The fields behind the command name, from the third on, the state (proc_pid_stat(5)). None of a text
/// that is another.
pub fn fields(stat: &str) -> impl Iterator<Item = &str> {
    // The command name is in parentheses and may hold any bytes, parentheses too.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_ascii_whitespace()
}
