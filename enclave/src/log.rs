//! Turns events that are marked public into JSON lines on standard output, and drops every other event.
//! It does not judge what a public field says: whoever writes one answers for it. Only `public_event!` may be used.

use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// The field that marks an event as public; its value names the event.
const MARK: &str = "pub_event";
const PREFIX: &str = "pub_";

/// Sends one public line: `public_event!("reload-refused", pub_code = error.code())`.
/// Fields that do not begin with `pub_` stay inside.
#[macro_export]
macro_rules! public_event {
    ($name:expr $(, $field:ident = $value:expr)* $(,)?) => {
        tracing::info!(pub_event = $name $(, $field = $value)*)
    };
}

/// Writes public events, one JSON object a line.
pub struct PublicLayer<W> {
    out: Mutex<W>,
    started: Instant,
}

impl<W: Write> PublicLayer<W> {
    /// A layer that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out: Mutex::new(out), started: Instant::now() }
    }
}

/// Sends public events to standard output from now on, and makes a panic one of them (place only, no message).
pub fn install() {
    let layer = PublicLayer::new(std::io::stdout());
    // A second installation changes nothing: the first one stays.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    std::panic::set_hook(Box::new(|info| {
        let line = info.location().map_or(0, std::panic::Location::line);
        let file = info.location().map_or("unknown", |l| l.file().rsplit('/').next().unwrap_or("unknown"));
        public_event!("panic", pub_file = file, pub_line = line);
    }));
}

impl<S, W> Layer<S> for PublicLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with(env!("CARGO_CRATE_NAME"))
            || event.metadata().fields().field(MARK).is_none()
        {
            return;
        }
        let mut fields = Public(Map::new());
        fields
            .0
            .insert("ms".into(), Value::from(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)));
        event.record(&mut fields);
        let mut line = Value::Object(fields.0).to_string();
        line.push('\n');
        if let Ok(mut out) = self.out.lock() {
            // The host may have closed the pipe: that must not stop the service.
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// Collects the fields that may leave.
struct Public(Map<String, Value>);

impl Public {
    fn put(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        if let Some(name) = field.name().strip_prefix(PREFIX) {
            self.0.insert(name.to_owned(), value());
        }
    }
}

impl Visit for Public {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, || Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, || Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, || Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, || Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, || Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(work: impl FnOnce()) -> String {
        let sink = Sink::default();
        let subscriber = tracing_subscriber::registry().with(PublicLayer::new(sink.clone()));
        tracing::subscriber::with_default(subscriber, work);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_unmarked_event_does_not_leave() {
        let text = written(|| {
            tracing::error!("patient 4711 {}", "secret");
            tracing::error!(patient = "secret", "said aloud");
            tracing::error!(pub_patient = "secret", "marked field, unmarked event");
            tracing::info_span!("secret", pub_event = "secret").in_scope(|| tracing::warn!("secret"));
        });
        assert_eq!(text, "");
    }

    #[test]
    fn an_unmarked_field_or_message_of_a_public_event_does_not_leave() {
        let text =
            written(|| tracing::info!(pub_event = "served", pub_count = 3_u64, row = "secret", "message secret"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["event"], &value["count"]), (&Value::from("served"), &Value::from(3)));
        assert_eq!(value.as_object().unwrap().len(), 3, "{text}");
        assert!(!text.contains("secret"));
    }

    #[test]
    fn an_event_of_another_crate_does_not_leave() {
        assert_eq!(written(|| tracing::info!(target: "hyper::proto", pub_event = "served")), "");
    }
}
