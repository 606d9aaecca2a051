//! What is cut out of a text, what stays, and that nobody can write what stands for a piece.

use proptest::prelude::*;

use super::*;

fn cut(text: &str) -> (String, Vec<String>) {
    let cut = Cut::new(text.as_bytes()).unwrap();
    let pieces = cut.pieces.iter().map(|(at, range)| {
        assert_eq!(&cut.rest[*at..*at + 2], "[]");
        assert_eq!(cut.restore(&cut.rest[*at..*at + 2]), &text[range.clone()]);
        text[range.clone()].to_owned()
    });
    (cut.text().to_owned(), pieces.collect())
}

fn long(list: &str) -> String {
    format!("[{}{list}]", " ".repeat(WORTHWHILE))
}

#[test]
fn long_lists_of_tensors_are_cut_out() {
    let lists = [long("1,2"), long("[3],[4,[5]]"), long("\"]\\\"]\",\"[\""), long("{\"data\":[1]}")];
    let body = |of: &dyn Fn(&str) -> String| {
        format!(
            "{{\"id\":\"data\",\"inputs\":[{{\"data\":{},\"name\":\"é\"}},{{\"name\":\"x\",\"data\" :\n {}}},{{\"data\":{},\"data\":{}}}]}}",
            of(&lists[0]),
            of(&lists[1]),
            of(&lists[2]),
            of(&lists[3]),
        )
    };
    assert_eq!(cut(&body(&|l| l.to_owned())), (body(&|_| "[]".to_owned()), lists.to_vec()));
}

#[test]
fn everything_else_stays() {
    let list = long("1");
    for text in [
        format!("{{\"data\":{list}}}"),
        format!("{{\"a\":{{\"b\":{{\"data\":{list}}}}}}}"),
        format!("[[{{\"data\":{list}}}]]"),
        format!("{{\"inputs\":[{{\"shape\":{list}}}]}}"),
        format!("{{\"inputs\":[{{\"d\\u0061ta\":{list}}}]}}"),
        format!("{{\"inputs\":[{{\"name\":\"data\",{list}]}}"),
        format!("{{\"inputs\":[{{\"data\":{{\"data\":{list}}}}}]}}"),
        "{\"inputs\":[{\"data\":[1,2,3]}]}".to_owned(),
        format!("{{\"inputs\":[{{\"data\":{}", &list[..list.len() - 1]),
        format!("{{\"inputs\":[{{\"data\":[{}\"]", " ".repeat(500)),
        String::new(),
        "\"".to_owned(),
    ] {
        assert_eq!(cut(&text), (text.clone(), vec![]), "{text}");
    }
    assert!(Cut::new(b"{\"\xff\"}").is_err());
}

#[test]
fn what_a_caller_writes_in_the_place_of_a_list_stays_what_it_is() {
    let text = format!("{{\"inputs\":[{{\"data\":{}}},{{\"data\":[]}}]}}", long("1"));
    let cut = Cut::new(text.as_bytes()).unwrap();
    let other = cut.text().rfind("[]").unwrap();
    assert_eq!(cut.restore(&cut.text()[other..other + 2]), "[]");
    assert_eq!(cut.restore("[]"), "[]");
}

proptest! {
    #[test]
    fn marks_are_found_as_one_by_one(text in "[0-9,.Y_\\[\\]\" é-]{0,40}") {
        let bytes = text.as_bytes();
        let near = |b: &u8| matches!(b, b'[' | b']' | b'"');
        let at = to_mark(bytes);
        prop_assert!(at <= bytes.len() && !bytes[..at].iter().any(near));
        prop_assert!(at == bytes.len() || near(&bytes[at]) || matches!(bytes[at], b'Y' | b'_'));
    }

    #[test]
    fn a_list_ends_where_serde_json_ends_it(words in proptest::collection::vec(any::<String>(), 0..6), tail in "[\\[\\]\",a]{0,6}") {
        let value = serde_json::json!([words, [[], [1.5, [words]]], {"a": ["]"]}]);
        let list = value.to_string();
        prop_assert_eq!(after_list(format!("{list}{tail}").as_bytes(), 0), Some(list.len()));
    }

    #[test]
    fn any_text_is_cut_into_pieces_that_make_it_up(text in "[{}\\[\\]\":, 1]{0,30}", middle in "[\\[\\]\",1]{0,9}") {
        let text = format!("{{\"inputs\":[{{\"data\":{}}}]}}{text}", long(&middle)) + &text;
        let cut = Cut::new(text.as_bytes()).unwrap();
        let (mut whole, mut copied) = (String::new(), 0);
        for (at, range) in &cut.pieces {
            whole += &cut.rest[copied..*at];
            whole += &text[range.clone()];
            copied = at + 2;
        }
        whole += &cut.text()[copied..];
        prop_assert_eq!(whole, text);
    }
}
