use super::*;

fn board() -> Arc<Board> {
    Arc::default()
}

#[test]
fn a_pull_is_on_the_board_until_it_ends_and_then_in_the_history() {
    let board = board();
    let ticket = board.begin("r.example/a:1");
    let caller = ticket.pull().call("pod web/nginx".into());
    ticket.pull().reached(Phase::Resolving);
    let waiting = ticket.pull().waits().begin("https://r.example/v2/a".into());
    let seen = board.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].number, seen[0].phase), (1, Phase::Resolving));
    assert_eq!(seen[0].callers, ["pod web/nginx"]);
    assert_eq!(seen[0].waits_for[0].on, "https://r.example/v2/a");
    assert_eq!(board.in_flight()[0].0, "r.example/a:1");

    drop(waiting);
    ticket.end(&Ok("abc".into()));
    drop(caller);
    let seen = board.seen();
    assert_eq!(
        (seen[0].phase, seen[0].outcome.as_str()),
        (Phase::Done, "abc")
    );
    assert!(seen[0].waits_for.is_empty());
    assert!(board.in_flight().is_empty());
}

#[test]
fn one_that_is_dropped_was_cancelled_and_one_that_failed_says_why() {
    let board = board();
    drop(board.begin("a"));
    let error = ImageError::malformed("manifest", "x".repeat(KEPT_WORDS * 2));
    board.begin("b").end(&Err(error));
    let seen = board.seen();
    assert_eq!(seen[0].reference, "b", "the last one first");
    assert_eq!(seen[0].phase, Phase::Failed);
    assert_eq!(seen[0].outcome.chars().count(), KEPT_WORDS);
    assert_eq!(seen[1].phase, Phase::Cancelled);
}

#[test]
fn the_history_is_short() {
    let board = board();
    for number in 0..KEPT + 10 {
        board.begin(&number.to_string()).end(&Ok(String::new()));
    }
    assert_eq!(board.seen().len(), KEPT);
    let later = Instant::now() + KEPT_FOR + Duration::from_secs(1);
    board.pulls().forget(later);
    assert!(board.seen().is_empty());
}

#[test]
fn many_callers_are_counted_and_a_few_named() {
    let board = board();
    let ticket = board.begin("a");
    let calls: Vec<_> = (0..20)
        .map(|number| ticket.pull().call(format!("pod default/p{number}")))
        .collect();
    let seen = &board.seen()[0];
    assert_eq!((seen.callers.len(), seen.more_callers), (8, 12));
    drop(calls);
    assert!(board.seen()[0].callers.is_empty());
}

#[test]
fn a_layer_that_another_pull_brings_is_shown_with_its_figures() {
    let board = board();
    let (first, second) = (board.begin("r/first"), board.begin("r/second"));
    let brings = Arc::new(LayerProgress::new("sha256:aa", 100, "c0"));
    brings.comes_from("https://r.example/aa");
    brings.received(40);
    brings.unpacked(90);
    let waits = Arc::new(LayerProgress::new("sha256:bb", 120, "c0"));
    first.pull().has(vec![brings]);
    second.pull().has(vec![waits]);
    let seen = board.seen();
    let layer = &seen[1].layers[0];
    assert_eq!(layer.phase, LayerPhase::Waiting);
    assert_eq!(
        (layer.size_bytes, layer.fetched_bytes, layer.unpacked_bytes),
        (100, 40, 90)
    );
    let on = &seen[1].waits_for[0].on;
    assert_eq!(on, "the pull of r/first, which brings layer sha256:bb");
    assert_eq!(seen[1].fetched_bytes, 0, "nothing came for this one");
}

#[tokio::test]
async fn every_turn_wakes_the_onlookers() {
    let board = board();
    let mut changes = board.changes();
    assert!(!changes.has_changed().unwrap());
    let ticket = board.begin("a");
    changes.changed().await.unwrap();
    ticket.pull().reached(Phase::Resolving);
    changes.changed().await.unwrap();
    let caller = ticket.pull().call("b".into());
    changes.changed().await.unwrap();
    drop((caller, ticket));
    changes.changed().await.unwrap();
}
