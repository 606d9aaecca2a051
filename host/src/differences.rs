//! Turns what two images or two packages do not share into lines or JSON, and into exit 10 when there is anything.
//! It compares nothing itself.

use serde_json::json;
pub use vouchsafe_image::Difference;

use crate::failure::{Failure, Outcome};

/// Prints every difference, or `equal` when there is none; otherwise `failure` says what they come to.
pub fn tell(found: &[Difference], equal: &str, failure: impl FnOnce() -> Failure, json: bool) -> Outcome {
    if !json {
        for Difference { kind, name, first, second } in found {
            let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "not there".to_owned());
            println!("{kind} {name}\n  first   {}\n  second  {}", word(first), word(second));
        }
    }
    if !found.is_empty() {
        let mut failure = failure();
        failure.more = Box::new(json!({ "equal": false, "differences": found }));
        return Err(failure);
    }
    if json {
        println!("{}", json!({ "accepted": true, "equal": true, "differences": [] }));
    } else {
        println!("{equal}");
    }
    Ok(())
}
