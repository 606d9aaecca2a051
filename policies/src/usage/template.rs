//! Turns a model's name and inputs into the usage policy that `seal` signs when the vendor brings none.
//! It grants much: never expires, any caller; a vendor who wants less writes a file.

use serde_json::{Value, json};

use super::{InputRule, Limits, UsagePolicy};

/// The limits of a policy that nobody wrote: 1,024 rows, 8 MiB.
const LIMITS: Limits = Limits { max_batch: 1024, max_body_bytes: 8 << 20 };

impl UsagePolicy {
    /// A usage policy for `model`, as JSON. Without known inputs it demands that they are finite, whatever they are.
    #[must_use]
    pub fn template(model: &str, inputs: &[InputRule]) -> String {
        let listed = || inputs.iter().map(entry).collect::<Vec<_>>();
        let inputs = if inputs.is_empty() { json!("finite") } else { json!(listed()) };
        let policy = json!({
            "version": 1,
            "model": model,
            "expires": "never",
            "limits": LIMITS,
            "inputs": inputs,
            "outputs": "any",
            "callers": "any",
            "quotas": "none",
        });
        format!("{policy:#}\n")
    }
}

fn entry(rule: &InputRule) -> Value {
    let mut entry =
        json!({"name": rule.name, "dtype": rule.dtype.as_str(), "shape": rule.shape, "finite": rule.finite});
    if let Some(range) = rule.range {
        entry["range"] = json!({"min": range.min(), "max": range.max()});
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Expires, Inputs, Range};

    #[test]
    fn the_template_is_read() {
        let policy = UsagePolicy::parse(UsagePolicy::template("breast-cancer", &[]).as_bytes()).unwrap();
        assert_eq!(
            (policy.model(), policy.expires(), policy.inputs()),
            ("breast-cancer", Expires::Never, &Inputs::Finite)
        );
        assert_eq!(policy.limits(), LIMITS);
    }

    fn edited(from: &str, to: &str) -> Result<UsagePolicy, super::super::UsageError> {
        let text = UsagePolicy::template("m", &[]);
        assert!(text.contains(from), "{from} is not in {text}");
        UsagePolicy::parse(text.replace(from, to).as_bytes())
    }

    #[test]
    fn every_rule_of_the_format_is_read() {
        let input = r#""inputs": [{"name":"x","dtype":"FP32","shape":[-1],"finite":true,"range":{"min":0,"max":1}}]"#;
        let digits = "0".repeat(64);
        let callers = format!(r#""callers": [{{"key":"sha256:{digits}","role":"r"}}]"#);
        let policy = UsagePolicy::template("m", &[])
            .replace(r#""inputs": "finite""#, input)
            .replace(r#""outputs": "any""#, r#""outputs": [{"name":"p","round":2,"top_k":3}]"#)
            .replace(r#""callers": "any""#, &callers)
            .replace(r#""quotas": "none""#, r#""quotas": [{"role":"r","requests":7,"per_s":60}]"#);
        let policy = UsagePolicy::parse(policy.as_bytes()).unwrap();
        let Inputs::Only(inputs) = policy.inputs() else { panic!("a list was written") };
        assert_eq!(inputs[0].range, Range::new(0.0, 1.0));
        assert!(policy.output_rule("p").is_some() && !policy.lets_out("q") && !policy.is_open());
        assert_eq!((policy.quotas()[0].role.as_str(), policy.quotas()[0].requests), ("r", 7));
        // What a range became is written as it was read.
        let again = UsagePolicy::parse(UsagePolicy::template("m", inputs).as_bytes()).unwrap();
        assert_eq!(again.inputs(), policy.inputs());
    }

    #[test]
    fn what_is_not_enforced_is_refused_by_name() {
        let hour = r#""quotas": [{"role":"any","requests":1,"per_s":3600}]"#;
        for (from, to, field) in [
            (r#""version": 1"#, r#""version": 2"#, "version"),
            (r#""callers": "any""#, r#""callers": [{"key":"x509:00","role":"r"}]"#, "callers.key"),
            (r#""quotas": "none""#, hour, "quotas.per_s"),
        ] {
            let error = edited(from, to).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("USAGE_POLICY_UNSUPPORTED", 4), "{to}");
            assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
        }
    }

    #[test]
    fn what_is_broken_is_invalid() {
        let one =
            |field: &str| format!(r#""inputs": [{{"name":"x","dtype":"FP32","shape":[-1],"finite":true{field}}}]"#);
        assert!(edited(r#""inputs": "finite""#, &one("")).is_ok());
        for (from, to) in [
            (r#""version": 1"#, r#""version": 1, "version": 1"#.to_owned()),
            (r#""version": 1"#, r#""version": 1, "extra": 1"#.to_owned()),
            (r#""never""#, r#""tomorrow""#.to_owned()),
            (r#""model": "m""#, r#""model": "../m""#.to_owned()),
            (r#""max_batch": 1024"#, r#""max_batch": 0"#.to_owned()),
            (r#""max_batch": 1024"#, r#""max_batch": 4294967296"#.to_owned()),
            (r#""outputs": "any""#, r#""outputs": "all""#.to_owned()),
            (r#""outputs": "any","#, String::new()),
            (r#""outputs": "any""#, r#""outputs": []"#.to_owned()),
            (r#""callers": "any""#, r#""callers": null"#.to_owned()),
            (r#""callers": "any""#, r#""callers": [{"key":"k","role":"r"}]"#.to_owned()),
            (r#""quotas": "none""#, r#""quotas": [{"role":"r","requests":1,"per_s":60}]"#.to_owned()),
            (r#""quotas": "none""#, r#""quotas": "any""#.to_owned()),
            (r#""quotas": "none""#, r#""quotas": [{"role":"r"}]"#.to_owned()),
            (r#""inputs": "finite""#, r#""inputs": []"#.to_owned()),
            (r#""inputs": "finite""#, one(r#","range":null"#)),
            (r#""inputs": "finite""#, one(r#","extra":1"#)),
            (r#""inputs": "finite""#, one(r#","range":{"min":0}"#)),
            (r#""inputs": "finite""#, one(r#","range":{"min":1,"max":0}"#)),
            (r#""inputs": "finite""#, one(r#","range":{"min":0,"max":1e999}"#)),
            (r#""inputs": "finite""#, one(r#","range":{"min":0,"max":1,"max":2}"#)),
            (r#""inputs": "finite""#, one("").replace("[-1]", "[-2]")),
            (r#""inputs": "finite""#, one("").replace("FP32", "FLOAT")),
            (r#""inputs": "finite""#, one("").replace("\"x\"", "\"\"")),
        ] {
            let error = edited(from, &to).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("USAGE_POLICY_INVALID", 6), "{to}");
        }
        let mut text = UsagePolicy::template("m", &[]).into_bytes();
        text.resize(super::super::MAX_USAGE_POLICY, b' ');
        assert!(UsagePolicy::parse(&text).is_ok());
        text.push(b' ');
        assert!(UsagePolicy::parse(&text).unwrap_err().to_string().contains("larger than"));
    }
}
