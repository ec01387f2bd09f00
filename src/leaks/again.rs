//! Sweeping again what could not be let go of: a network plugin may need something that is away, a
//! mount may be busy. An address that is not given back would be lost until the next start.

use std::time::Duration;

use super::Leaks;

/// How long the second try waits for; each later one waits twice as long as the one before it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

impl Leaks {
    /// Sweeps until there is nothing left that has no owner; what there is to say goes to the log.
    pub async fn fix_until_done(&self) {
        for wait in waits() {
            if self.fix_and_log().await {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }
}

fn waits() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST), |wait| Some((*wait * 2).min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_never_end() {
        let seconds: Vec<u64> = waits().take(12).map(|wait| wait.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }
}
