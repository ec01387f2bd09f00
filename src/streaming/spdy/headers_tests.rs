use cricket_harness::spdy::{HeaderWriter, header_list};
use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;

fn pairs(headers: &Headers) -> Vec<(&str, &str)> {
    headers
        .0
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// Two blocks as Go's framer compresses them, the second referring to the first.
const GO_FIRST: &str = "78f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff";
const GO_SECOND: &str = "02a547060606ce2248d465829234a301866250b9930829c28b40c99dc9c200000000ffff";

#[test]
fn blocks_of_the_go_client_are_read_in_one_context() {
    let mut inflater = Inflater::new();
    let first = inflater.inflate(&hex::decode(GO_FIRST).unwrap()).unwrap();
    assert_eq!(
        pairs(&Headers::parse(first).unwrap()),
        [("streamtype", "error")]
    );
    let second = inflater.inflate(&hex::decode(GO_SECOND).unwrap()).unwrap();
    let second = Headers::parse(second).unwrap();
    let mut found = pairs(&second);
    found.sort_unstable();
    assert_eq!(
        found,
        [("port", "80"), ("requestid", "0"), ("streamtype", "data")]
    );
    let without_the_first = Inflater::new()
        .inflate(&hex::decode(GO_SECOND).unwrap())
        .map(<[u8]>::len);
    assert!(
        matches!(without_the_first, Err(HeaderError::Inflate(_))),
        "{without_the_first:?}"
    );
}

#[test]
fn the_replies_blocks_are_empty_lists_in_one_context() {
    let mut replies = EmptyBlocks::default();
    let mut inflater = Inflater::new();
    for _ in 0..3 {
        let list = inflater.inflate(replies.block()).unwrap();
        assert_eq!(list, [0; 4]);
        replies.sent();
    }
}

#[test]
fn a_block_that_inflates_to_too_much_is_an_error() {
    for (length, good) in [
        (MAX_INFLATED, true),
        (MAX_INFLATED + 1, false),
        (MAX_INFLATED * 700, false),
    ] {
        let block = HeaderWriter::default().compress(&vec![0; length]);
        assert!(
            good || length == MAX_INFLATED + 1 || block.len() < MAX_INFLATED,
            "it is a bomb"
        );
        let mut inflater = Inflater::new();
        let result = inflater.inflate(&block).map(<[u8]>::len);
        let expected = if good {
            Ok(length)
        } else {
            Err(HeaderError::TooLarge)
        };
        assert_eq!(result, expected);
        assert!(
            inflater.inflated.capacity() <= 2 * MAX_INFLATED,
            "memory is bounded"
        );
    }
}

#[test]
fn a_block_that_is_not_of_this_protocol_is_an_error() {
    let zlib = |dictionary: &[u8], flush| {
        let mut zlib = Compress::new(Compression::fast(), true);
        if !dictionary.is_empty() {
            zlib.set_dictionary(dictionary).unwrap();
        }
        let mut block = Vec::with_capacity(1000);
        zlib.compress_vec(&[0; 4], &mut block, flush).unwrap();
        block
    };
    let table = [
        (
            zlib(b"another dictionary", FlushCompress::Sync),
            "another dictionary",
        ),
        (zlib(DICTIONARY, FlushCompress::Finish), "an ended stream"),
        (b"no zlib at all".to_vec(), "no zlib"),
    ];
    for (block, what) in table {
        let result = Inflater::new().inflate(&block).map(<[u8]>::len);
        assert!(
            matches!(result, Err(HeaderError::Inflate(_) | HeaderError::Ended)),
            "{what}: {result:?}"
        );
    }
}

#[test]
fn a_list_of_headers_must_be_well_formed() {
    let of = |bytes: &[u8]| Headers::parse(bytes).map(|_| ());
    let malformed = |what| Err(HeaderError::Malformed(what));
    assert_eq!(of(&header_list(&[("a", "1"), ("b", "2")])), Ok(()));
    assert_eq!(
        of(&header_list(&[("a", "")])),
        Ok(()),
        "a value may be empty"
    );
    assert_eq!(
        of(&header_list(&[("a", "1"), ("a", "2")])),
        malformed("a name is there twice")
    );
    assert_eq!(
        of(&header_list(&[("Port", "1")])),
        malformed("a name is not in lower case")
    );
    assert_eq!(of(&header_list(&[("", "1")])), malformed("a name is empty"));
    assert_eq!(of(b""), malformed("it ends too early"));
    assert_eq!(
        of(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, b'a']),
        malformed("it ends too early")
    );
    assert_eq!(of(&[0xff; 4]), malformed("too many headers"));
    assert_eq!(
        of(&[0, 0, 0, 0, 0]),
        malformed("bytes follow the last header")
    );
    assert_eq!(
        of(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0]),
        malformed("it is not UTF-8")
    );
}

#[test]
fn of_several_values_the_first_counts() {
    let headers = Headers::parse(&header_list(&[("port", "80\x0081")])).unwrap();
    assert_eq!(headers.get("port"), Some("80"));
    assert_eq!(headers.get("streamtype"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_written_is_read(
        lists in proptest::collection::vec(
            proptest::collection::btree_map("[a-z-]{1,20}", "[ -~]{0,40}", 0..8),
            1..6,
        ),
    ) {
        let mut writer = HeaderWriter::default();
        let mut inflater = Inflater::new();
        for list in lists {
            let list: Vec<_> = list.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let block = writer.compress(&header_list(&list));
            let headers = Headers::parse(inflater.inflate(&block).unwrap()).unwrap();
            prop_assert_eq!(pairs(&headers), list);
        }
    }

    #[test]
    fn no_bytes_make_inflating_panic_or_grow(
        begins_well: bool,
        blocks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..300),
            1..4,
        ),
    ) {
        let mut inflater = Inflater::new();
        if begins_well {
            inflater.inflate(&hex::decode(GO_FIRST).unwrap()).unwrap();
        }
        for block in blocks {
            if let Ok(list) = inflater.inflate(&block) {
                prop_assert!(list.len() <= MAX_INFLATED);
                let _ = Headers::parse(list);
            }
        }
        prop_assert!(inflater.inflated.capacity() <= 2 * MAX_INFLATED);
    }

    #[test]
    fn a_block_that_is_cut_or_altered_is_an_error_or_another_list(
        at in 0_usize..31,
        with: u8,
        cut: bool,
    ) {
        let mut block = hex::decode(GO_FIRST).unwrap();
        if cut { block.truncate(at) } else { block[at] = with }
        if let Ok(list) = Inflater::new().inflate(&block) {
            let _ = Headers::parse(list);
        }
    }

    #[test]
    fn no_list_makes_the_parser_panic(list in proptest::collection::vec(0_u8..4, 0..60)) {
        let _ = Headers::parse(&list);
    }
}
