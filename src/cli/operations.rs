//! `cricket operations`: what is being done to pods and containers now, and for what it waits.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use cricket_proto::admin::admin_service_client::AdminServiceClient;
use cricket_proto::admin::{ListOperationsRequest, Operation};
use serde_json::json;

use super::amount::time;
use super::{CliError, client, converse, format, load_config, print};

pub(super) fn command() -> Command {
    Command::new("operations")
        .about(
            "Show what is being done to pods and containers, for how long, and what it waits for",
        )
        .long_about(
            "Shows the operations on pods and containers that the daemon is at, the longest first: \
             the stage that each is in, for how long, and what that stage waits for, a CNI plugin \
             and its process for example. Pulls are shown by `cricket pulls`.",
        )
        .arg(format::flag("table, or json with times in milliseconds"))
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let socket = load_config(matches)?.config.api.listen;
    let is_json = format::is_json(own);
    let operations = converse(async {
        let mut client = AdminServiceClient::new(client::connect(&socket).await?);
        let answer = client.list_operations(ListOperationsRequest {}).await;
        let refused = |status: tonic::Status| CliError::Refused {
            what: "asking for operations".to_owned(),
            message: status.message().to_owned(),
        };
        Ok(answer.map_err(refused)?.into_inner().operations)
    })?;
    let text = if is_json {
        format!("{:#}\n", as_json(&operations))
    } else {
        table(&operations).join("\n") + "\n"
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A row for each operation, with a line below it for what it waits for.
fn table(operations: &[Operation]) -> Vec<String> {
    let mut rows = vec![["OPERATION", "TIME", "STAGE", "FOR", "SUBJECT"].map(str::to_owned)];
    rows.extend(operations.iter().map(|one| {
        let (elapsed, in_stage) = (time(one.elapsed_ms), time(one.stage_ms));
        [&one.kind, &elapsed, &one.stage, &in_stage, &one.subject].map(Clone::clone)
    }));
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&rows[0])];
    for (one, row) in operations.iter().zip(&rows[1..]) {
        lines.push(line(row));
        if !one.waits_for.is_empty() {
            lines.push(format!("  waits for {}", one.waits_for));
        }
    }
    lines
}

fn as_json(operations: &[Operation]) -> serde_json::Value {
    let told = operations.iter().map(|one| {
        json!({
            "operation": one.kind, "subject": one.subject, "elapsedMs": one.elapsed_ms,
            "stage": one.stage, "stageMs": one.stage_ms, "waitsFor": one.waits_for,
        })
    });
    json!({ "operations": told.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> [Operation; 2] {
        let running = Operation {
            kind: "run sandbox".into(),
            subject: "k8s_web_default_u-1_0".into(),
            stage: "CNI ADD".into(),
            stage_ms: 61_000,
            waits_for: "CNI ADD of plugin `bridge`, pid 7".into(),
            elapsed_ms: 61_200,
        };
        let stopping = Operation {
            kind: "stop container".into(),
            subject: "abc".into(),
            stage: "validate".into(),
            stage_ms: 100,
            waits_for: String::new(),
            elapsed_ms: 100,
        };
        [running, stopping]
    }

    #[test]
    fn a_table_says_what_each_waits_for() {
        let want = "\
OPERATION       TIME   STAGE     FOR    SUBJECT
run sandbox     1m01s  CNI ADD   1m01s  k8s_web_default_u-1_0
  waits for CNI ADD of plugin `bridge`, pid 7
stop container  0.1s   validate  0.1s   abc";
        assert_eq!(table(&samples()).join("\n"), want);
        assert_eq!(table(&[]), ["OPERATION  TIME  STAGE  FOR  SUBJECT"]);
    }

    #[test]
    fn json_has_times_in_milliseconds() {
        let json = as_json(&samples());
        assert_eq!(json["operations"][0]["stageMs"], 61_000);
        assert_eq!(
            json["operations"][0]["waitsFor"],
            "CNI ADD of plugin `bridge`, pid 7"
        );
    }
}
