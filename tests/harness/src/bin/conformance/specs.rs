//! critest's specs: which there are, how they are told to run, and what its reports say of them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cricket_harness::tools;
use serde_json::Value;

/// One `It` of the suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// All its headings and its own, as ginkgo matches `--focus` with.
    pub text: String,
    /// `validate/pod.go`: the file as [`focus`] names it.
    pub file: String,
    /// The line of its `It`.
    pub line: u64,
}

impl Spec {
    /// The same once more over WebSocket, if it is one that streams.
    pub fn over_websocket(&self) -> Option<Spec> {
        self.text.starts_with(STREAMING).then(|| Spec {
            text: format!("{}{OVER_WEBSOCKET}", self.text),
            ..self.clone()
        })
    }

    /// None of the specs but what is before or after all of them.
    pub fn is_suite(&self) -> bool {
        self.file.is_empty()
    }
}

/// What the names of the streaming specs begin with.
const STREAMING: &str = "[k8s.io] Streaming ";
/// Ours, put behind the name of one that runs over WebSocket: critest's default is SPDY.
const OVER_WEBSOCKET: &str = " (over WebSocket)";
/// critest's way to run them so.
const WEBSOCKET_FLAGS: [&str; 3] = [
    "--websocket-exec",
    "--websocket-attach",
    "--websocket-portforward",
];

/// How one ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Passed,
    /// critest found no ground to run it, and why.
    Skipped(String),
    /// It failed, panicked, timed out or was interrupted: what critest says of it.
    Failed(String),
}

/// A spec that ran.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub spec: Spec,
    /// How.
    pub end: End,
    /// How long it took.
    pub time: Duration,
}

/// Asks critest for its specs: those of `focus` (all without one), not the benchmarks.
pub fn list(critest: &Path, work: &Path, focus: Option<&str>) -> Vec<Spec> {
    let report = work.join("specs.json");
    let mut command = Command::new(critest);
    command
        .arg("--ginkgo.dry-run")
        .arg("--ginkgo.json-report")
        .arg(&report);
    if let Some(focus) = focus {
        command.arg("--ginkgo.focus").arg(focus);
    }
    tools::run(&mut command);
    outcomes(&report)
        .unwrap_or_else(|error| panic!("{error}"))
        .into_iter()
        .filter(|outcome| outcome.end == End::Passed)
        .map(|outcome| outcome.spec)
        .collect()
}

/// Arguments that make critest run these specs and no other; all or none are over WebSocket.
pub fn arguments(specs: &[Spec]) -> Vec<String> {
    let focus = |spec: &Spec| format!("--ginkgo.focus-file={}:{}", spec.file, spec.line);
    let mut arguments: Vec<String> = specs.iter().map(focus).collect();
    if specs.iter().any(|spec| spec.text.ends_with(OVER_WEBSOCKET)) {
        arguments.extend(WEBSOCKET_FLAGS.map(str::to_owned));
    }
    arguments
}

/// What a node with these specs reported of them and of the suite as a whole: its report has all
/// specs of critest, those that it did not run as skipped.
pub fn of_share(reported: Vec<Outcome>, share: &[Spec]) -> Vec<Outcome> {
    let same = |outcome: Outcome| {
        let again = outcome.spec.over_websocket();
        let spec = share
            .iter()
            .find(|spec| **spec == outcome.spec || Some(*spec) == again.as_ref());
        let spec = spec
            .cloned()
            .or_else(|| outcome.spec.is_suite().then(|| outcome.spec.clone()))?;
        Some(Outcome { spec, ..outcome })
    };
    reported.into_iter().filter_map(same).collect()
}

/// What a JSON report of ginkgo's says; one that is missing or cut off is an error.
pub fn outcomes(report: &Path) -> Result<Vec<Outcome>, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", report.display());
    let text = fs::read(report).map_err(|error| told(&error))?;
    let suites: Value = serde_json::from_slice(&text).map_err(|error| told(&error))?;
    let reports = suites[0]["SpecReports"].as_array();
    let reports = reports.ok_or_else(|| told(&"no list of specs in it"))?;
    Ok(reports.iter().filter_map(outcome).collect())
}

fn outcome(report: &Value) -> Option<Outcome> {
    if report["LeafNodeType"] != "It" {
        return suite_failure(report);
    }
    let texts = report["ContainerHierarchyTexts"].as_array();
    let texts = texts.into_iter().flatten().chain([&report["LeafNodeText"]]);
    let text: Vec<&str> = texts.filter_map(Value::as_str).collect();
    let file = report["LeafNodeLocation"]["FileName"].as_str()?;
    let file: Vec<&str> = file.rsplitn(3, '/').take(2).collect();
    let spec = Spec {
        text: text.join(" "),
        file: file.into_iter().rev().collect::<Vec<_>>().join("/"),
        line: report["LeafNodeLocation"]["LineNumber"].as_u64()?,
    };
    let failure = &report["Failure"];
    let message = failure["Message"].as_str().unwrap_or_default().trim();
    let end = match report["State"].as_str()? {
        "passed" => End::Passed,
        "skipped" | "pending" => End::Skipped(message.to_owned()),
        state => End::Failed(format!("{state}: {}{}", short(message), place(failure))),
    };
    let time = Duration::from_nanos(report["RunTime"].as_u64().unwrap_or_default());
    Some(Outcome { spec, end, time })
}

/// What failed outside of any spec, before or after the suite.
fn suite_failure(report: &Value) -> Option<Outcome> {
    let kind = report["LeafNodeType"].as_str()?;
    let failure = &report["Failure"];
    let message = failure["Message"].as_str()?;
    (report["State"] != "passed" && !message.is_empty()).then(|| Outcome {
        spec: Spec {
            text: kind.to_owned(),
            file: String::new(),
            line: 0,
        },
        end: End::Failed(format!("{}{}", short(message), place(failure))),
        time: Duration::ZERO,
    })
}

/// A failure's message without the dump of Go's structures that gomega adds: critest.log has it.
fn short(message: &str) -> String {
    let lines = message
        .lines()
        .take_while(|line| line.trim() != "{")
        .take(12);
    lines.collect::<Vec<_>>().join("\n")
}

fn place(failure: &Value) -> String {
    let file = failure["Location"]["FileName"].as_str().unwrap_or_default();
    let name = file.rsplit('/').next().unwrap_or_default();
    format!(" ({name}:{})", failure["Location"]["LineNumber"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(state: &str, message: &str) -> Value {
        json!({
            "LeafNodeType": "It", "ContainerHierarchyTexts": ["[k8s.io] A", "b"],
            "LeafNodeText": "does c", "State": state, "RunTime": 2_000_000_000_u64,
            "LeafNodeLocation": {"FileName": "/m/pkg/validate/pod.go", "LineNumber": 7},
            "Failure": {"Message": message, "Location": {"FileName": "/m/x.go", "LineNumber": 9}},
        })
    }

    #[test]
    fn a_report_tells_each_specs_end_and_place() {
        for (state, end) in [
            ("passed", End::Passed),
            ("skipped", End::Skipped("why".into())),
            ("failed", End::Failed("failed: why (x.go:9)".into())),
            ("timedout", End::Failed("timedout: why (x.go:9)".into())),
        ] {
            let outcome = outcome(&report(state, "why")).unwrap();
            assert_eq!(outcome.end, end);
            assert_eq!(outcome.spec.text, "[k8s.io] A b does c");
            assert_eq!(outcome.time, Duration::from_secs(2));
            assert_eq!(
                arguments(&[outcome.spec]),
                ["--ginkgo.focus-file=validate/pod.go:7"]
            );
        }
    }

    #[test]
    fn a_report_that_is_missing_cut_off_or_of_another_shape_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        assert!(outcomes(&file).unwrap_err().contains("report.json"));
        for text in ["", "[{", "{}", "[]", "[{\"SpecReports\": 1}]"] {
            fs::write(&file, text).unwrap();
            assert!(outcomes(&file).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_streaming_spec_is_told_apart_over_websocket_and_no_other_is() {
        let other = outcome(&report("passed", "")).unwrap();
        assert_eq!(other.spec.over_websocket(), None);
        let mut streaming = report("passed", "");
        streaming["ContainerHierarchyTexts"] = json!(["[k8s.io] Streaming"]);
        let spdy = outcome(&streaming).unwrap();
        let websocket = spdy.spec.over_websocket().unwrap();
        assert!(!arguments(std::slice::from_ref(&spdy.spec)).contains(&"--websocket-exec".into()));
        let share = [websocket];
        assert!(arguments(&share).contains(&"--websocket-exec".into()));
        let ours = of_share(vec![other, spdy], &share);
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0].spec, share[0]);
    }

    #[test]
    fn a_failure_outside_of_any_spec_is_told() {
        let mut before = report("failed", "no daemon");
        before["LeafNodeType"] = "BeforeSuite".into();
        let outcome = outcome(&before).unwrap();
        assert_eq!(outcome.spec.text, "BeforeSuite");
        assert!(matches!(outcome.end, End::Failed(_)));
    }
}
