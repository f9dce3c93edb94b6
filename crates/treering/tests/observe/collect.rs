//! A subscriber that keeps events with their fields and the spans they are in.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The fields of an event or a span, as text; an event's words are `message`.
pub(crate) type Fields = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) level: Level,
    pub(crate) fields: Fields,
    /// The spans around it, the outermost first.
    pub(crate) spans: Vec<(&'static str, Fields)>,
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

static INSTALLED: LazyLock<()> = LazyLock::new(|| {
    let subscriber = tracing_subscriber::registry().with(Collector);
    tracing::subscriber::set_global_default(subscriber).unwrap();
});

/// Begins to collect, for the whole process.
pub(crate) fn install() {
    LazyLock::force(&INSTALLED);
}

/// The events with these words so far of which `which` is true. Tests run beside each other: it has
/// to tell whose they are.
pub(crate) fn events(message: &str, which: impl Fn(&Seen) -> bool) -> Vec<Seen> {
    let seen = SEEN.lock().unwrap();
    let named = seen.iter().filter(|seen| seen.fields.get("message").is_some_and(|m| m == message));
    named.filter(|seen| which(seen)).cloned().collect()
}

impl Seen {
    pub(crate) fn number(&self, field: &str) -> u64 {
        let text = self.fields.get(field);
        let text = text.unwrap_or_else(|| panic!("no field {field} in {self:?}"));
        text.parse().unwrap_or_else(|_| panic!("{field} is no number in {self:?}"))
    }

    pub(crate) fn has(&self, field: &str, value: &str) -> bool {
        self.fields.get(field).is_some_and(|text| text == value)
    }

    /// Whether it happened inside a span of that name with that field.
    pub(crate) fn is_in(&self, span: &str, field: &str, value: &str) -> bool {
        let mut spans = self.spans.iter().filter(|(name, _)| *name == span);
        spans.any(|(_, fields)| fields.get(field).is_some_and(|text| text == value))
    }
}

struct Collector;

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Text(&mut fields));
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let mut extensions = span.extensions_mut();
        values.record(&mut Text(extensions.get_mut::<Fields>().unwrap()));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Text(&mut fields));
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let spans = spans.map(|span| {
            let fields = span.extensions().get::<Fields>().cloned().unwrap_or_default();
            (span.name(), fields)
        });
        let spans = spans.collect();
        let level = *event.metadata().level();
        SEEN.lock().unwrap().push(Seen { level, fields, spans });
    }
}

struct Text<'f>(&'f mut Fields);

impl Visit for Text<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }
}
