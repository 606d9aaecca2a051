//! Turns the nodes of a function or of the main graph into what it uses: operators, functions, domains, loops.
//! Whether a called function exists is known only at the end of the stream; `finish` looks then.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Reason, Stop};
use crate::frame::{Attribute, Frame, HEAVY, Shared, weight};
use crate::operators::{self, STANDARD, WITH_GRAPHS};

/// What names an operator or a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub domain: String,
    pub name: String,
    pub overload: String,
}

/// A node that has begun.
#[derive(Default)]
pub(crate) struct Node {
    pub key: Key,
    /// The first two inputs, as a loop has them.
    pub trips: String,
    pub condition: String,
    pub first_output: Option<String>,
    /// All of them, in a function.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    attributes: BTreeSet<String>,
    /// An attribute holds a graph.
    graphs: bool,
    /// An attribute holds a single integer beyond the limit of trips, or one that is not seen.
    large: bool,
    /// An attribute holds a single `true`, or a single truth value that is not seen.
    holds: bool,
    /// The condition that a loop's body makes; empty when that hands on its own.
    next: String,
}

/// A graph that has begun.
#[derive(Default)]
pub(crate) struct Graph {
    /// Whether it is the model's own.
    pub main: bool,
    /// In a subgraph: its second input and first output, which a loop's body has for the condition.
    pub condition: String,
    pub next: String,
    /// In a subgraph: what an `Identity` makes, and of what.
    pub same: BTreeMap<String, String>,
}

/// A loop that a scope has.
struct Loop {
    trips: String,
    condition: String,
    next: String,
    place: String,
}

/// A function that has begun.
#[derive(Default)]
pub(crate) struct Function {
    pub key: Key,
    pub inputs: BTreeSet<String>,
    pub outputs: Vec<String>,
    pub opsets: Vec<(String, i64)>,
}

/// The calls of one function from one scope.
pub(crate) struct Call {
    pub count: u64,
    /// How many subgraphs are around the deepest of them.
    pub level: usize,
    /// As `count`, each counted twice for every subgraph around it.
    pub nested: u64,
    /// The first of them.
    pub place: String,
}

/// The main graph or a function, its subgraphs included.
#[derive(Default)]
pub(crate) struct Scope {
    pub nodes: u64,
    /// Nodes, subgraphs and calls, counted twice for every subgraph around them.
    pub nested: u64,
    /// Bytes of a function's body, and of what its tensors stand for elsewhere.
    pub bytes: u64,
    pub depth: usize,
    /// Where each domain is used first.
    pub domains: BTreeMap<String, String>,
    pub calls: BTreeMap<Key, Call>,
    loops: Vec<Loop>,
    /// Names of single integers that bound no loop.
    large: BTreeSet<String>,
    /// Names of single truth values that end no loop.
    truths: BTreeSet<String>,
    /// In a function: the names of its inputs and of what its nodes made so far.
    defined: BTreeSet<String>,
    /// In a function's subgraphs: the names that are defined there, and those that are used.
    inner: BTreeSet<String>,
    inner_used: BTreeSet<String>,
}

impl Node {
    /// Takes an attribute.
    pub fn attribute(&mut self, attribute: Attribute, frame: &Frame, shared: &Shared) -> Result<(), Reason> {
        self.graphs |= attribute.judge(frame, shared.in_function)?;
        self.large |= attribute.is_large(shared.limits.trips);
        self.holds |= attribute.holds || !attribute.reference.is_empty();
        if attribute.name == "body" {
            self.next = attribute.next;
        }
        if self.attributes.insert(attribute.name) { Ok(()) } else { Err(Reason::Attribute) }
    }
}

impl Graph {
    /// Takes a node of this graph.
    pub fn node(&mut self, node: &Node, shared: &mut Shared) -> Result<(), Reason> {
        let identity = node.key.name == "Identity" && matches!(node.key.domain.as_str(), STANDARD | "ai.onnx");
        if let (false, true, Some(output)) = (self.main, identity, &node.first_output) {
            shared.hold(output)?;
            shared.hold(&node.trips)?;
            self.same.insert(output.clone(), node.trips.clone());
        }
        Ok(())
    }

    /// The condition that this body of a loop makes; empty when it hands on its own, or makes none.
    pub fn next(mut self) -> String {
        let next = self.same.remove(&self.next).unwrap_or(self.next);
        if next == self.condition { String::new() } else { next }
    }
}

impl Attribute {
    /// Refuses content that is not of the attribute's type: code that goes by the type and code that goes by the field would see
    /// different things. Answers whether the content is a graph.
    pub fn judge(&self, frame: &Frame, in_function: bool) -> Result<bool, Reason> {
        // `AttributeType` to the field that holds it; the last ones are single messages, which must be there.
        const CONTENT: [(u64, usize); 14] = [
            (1, 2),
            (2, 3),
            (3, 4),
            (6, 7),
            (7, 8),
            (8, 9),
            (9, 10),
            (10, 11),
            (12, 23),
            (14, 15),
            (4, 5),
            (5, 6),
            (11, 22),
            (13, 14),
        ];
        const SINGLE_MESSAGES: [usize; 4] = [5, 6, 22, 14];
        if self.name.is_empty() {
            return Err(Reason::Attribute);
        }
        let (_, own) = CONTENT.into_iter().find(|(kind, _)| *kind == self.kind).ok_or(Reason::Attribute)?;
        let graph = matches!(own, 6 | 11);
        if !self.reference.is_empty() {
            let content = CONTENT.iter().any(|(_, field)| frame.has(&[*field]));
            return if content || graph || !in_function { Err(Reason::Reference) } else { Ok(false) };
        }
        let foreign = CONTENT.iter().any(|(_, field)| *field != own && frame.has(&[*field]));
        if foreign || SINGLE_MESSAGES.contains(&own) && !frame.has(&[own]) {
            return Err(Reason::Attribute);
        }
        Ok(graph)
    }

    /// Whether a Constant of this attribute may be a trip count beyond the limit.
    fn is_large(&self, limit: i64) -> bool {
        let number = self.kind == 2 || self.kind == 7 && self.numbers == 1;
        self.large || !self.reference.is_empty() || number && self.first.is_some_and(|value| value > limit)
    }
}

impl Shared {
    /// Takes a node.
    pub fn node(&mut self, mut node: Node, place: &dyn Fn() -> String) -> Result<(), Reason> {
        if self.in_function {
            let (inputs, outputs) = (core::mem::take(&mut node.inputs), core::mem::take(&mut node.outputs));
            self.wire(inputs, outputs)?;
        }
        let key = Key { domain: operators::normal(node.key.domain), ..node.key };
        let known = operators::domain(&key.domain);
        if let Some((names, _)) = known
            && (!key.overload.is_empty() || names.binary_search(&key.name.as_str()).is_err())
        {
            return Err(Reason::Operator);
        }
        let standard = key.domain == STANDARD;
        if node.graphs && !(standard && WITH_GRAPHS.contains(&key.name.as_str())) {
            return Err(Reason::AttributeGraph);
        }
        if standard && key.name == "Loop" {
            let place = place();
            for text in [&node.trips, &node.condition, &node.next, &place] {
                self.hold(text)?;
            }
            let Node { trips, condition, next, .. } = node;
            self.scope.loops.push(Loop { trips, condition, next, place });
        } else if standard && key.name == "Constant" {
            self.constant(node.first_output.unwrap_or_default(), node.large, node.holds)?;
        }
        if !self.scope.domains.contains_key(&key.domain) {
            self.hold(&key.domain)?;
            self.scope.domains.insert(key.domain.clone(), place());
        }
        if known.is_none() {
            self.scope.nested = self.scope.nested.saturating_add(weight(self.level).saturating_mul(HEAVY));
            if !self.scope.calls.contains_key(&key) {
                let place = place();
                for text in [&key.domain, &key.name, &key.overload, &place] {
                    self.hold(text)?;
                }
                self.scope.calls.insert(key.clone(), Call { count: 0, level: 0, nested: 0, place });
            }
            if let Some(call) = self.scope.calls.get_mut(&key) {
                call.count += 1;
                call.level = call.level.max(self.level);
                call.nested = call.nested.saturating_add(weight(self.level));
            }
        }
        let name = (key.domain, key.name);
        if !self.operators.contains_key(&name) {
            self.hold(&name.0)?;
            self.hold(&name.1)?;
        }
        *self.operators.entry(name).or_default() += 1;
        Ok(())
    }

    /// Defines a name in a function's body, the first time.
    pub fn define(&mut self, name: String) -> Result<(), Reason> {
        self.hold(&name)?;
        if self.scope.defined.insert(name) { Ok(()) } else { Err(Reason::FunctionBody) }
    }

    /// Defines a name in a subgraph of a function; branches may have the same.
    pub fn define_inner(&mut self, name: String) -> Result<(), Reason> {
        if self.in_function {
            self.hold(&name)?;
            self.scope.inner.insert(name);
        }
        Ok(())
    }

    /// Uses a name as the output of a subgraph of a function.
    pub fn use_inner(&mut self, name: String) -> Result<(), Reason> {
        if self.in_function && !name.is_empty() {
            self.hold(&name)?;
            self.scope.inner_used.insert(name);
        }
        Ok(())
    }

    /// Follows the names through a function's body: ONNX Runtime puts that in place of a call before it looks whether the names are
    /// in order, and 1.24 crashes on some that are not. Nodes stand in order, as ONNX demands.
    fn wire(&mut self, inputs: Vec<String>, outputs: Vec<String>) -> Result<(), Reason> {
        if self.level > 0 {
            self.scope.inner_used.extend(inputs.into_iter().filter(|name| !name.is_empty()));
            self.scope.inner.extend(outputs);
            return Ok(());
        }
        // The subgraphs of this node have ended; theirs may only be names of their own or of nodes before it.
        let used = core::mem::take(&mut self.scope.inner_used);
        let inner = core::mem::take(&mut self.scope.inner);
        let defined = &self.scope.defined;
        let known = inputs.iter().all(|name| name.is_empty() || defined.contains(name))
            && used.iter().all(|name| defined.contains(name) || inner.contains(name));
        if !known {
            return Err(Reason::FunctionBody);
        }
        outputs.into_iter().filter(|name| !name.is_empty()).try_for_each(|name| self.define(name))
    }

    /// Whether all of a function's outputs are made in it.
    pub fn makes(&self, outputs: &[String]) -> Result<(), Reason> {
        if outputs.iter().all(|name| self.scope.defined.contains(name)) { Ok(()) } else { Err(Reason::FunctionBody) }
    }

    /// Remembers a single integer that bounds no loop, or a single truth value that ends none.
    pub fn constant(&mut self, name: String, large: bool, holds: bool) -> Result<(), Reason> {
        if large {
            self.hold(&name)?;
            self.scope.large.insert(name.clone());
        }
        if holds {
            self.hold(&name)?;
            self.scope.truths.insert(name);
        }
        Ok(())
    }

    /// Ends the main graph or a function, and takes its scope. Names count as one wherever in the scope they stand.
    pub fn end_scope(&mut self, inputs: Option<&BTreeSet<String>>) -> Result<Scope, Stop> {
        let mut scope = core::mem::take(&mut self.scope);
        scope.defined.clear();
        // A call may leave out what its function takes.
        let input = |name: &String| inputs.is_some_and(|inputs| inputs.contains(name));
        let truth = |name: &String| name.is_empty() || scope.truths.contains(name) || input(name);
        for Loop { trips, condition, next, place } in &scope.loops {
            let reason = if trips.is_empty() {
                Reason::Loop
            } else if scope.large.contains(trips) {
                Reason::LoopTrips(self.limits.trips)
            } else if input(trips) {
                Reason::LoopInput
            } else {
                continue;
            };
            if condition.is_empty() || truth(condition) && truth(next) {
                return Err(Stop(reason, Some(place.clone())));
            }
            self.long_loop = true;
        }
        self.depth = self.depth.max(scope.depth);
        Ok(scope)
    }
}
