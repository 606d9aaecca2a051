//! Turns everything that could come in any order (functions, calls, operator sets) into a report or a refusal.
//! It runs when the last byte has been seen, and before that byte may be handed on.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Reason, Stop};
use crate::frame::Shared;
use crate::operators;
use crate::report::{self, Report, ValueType, Warning};
use crate::scope::{Key, Scope};

/// What a scope becomes when its calls are replaced by bodies.
#[derive(Clone, Copy)]
struct Size {
    nodes: u64,
    /// Nodes, subgraphs and calls, counted twice for every subgraph around them.
    nested: u64,
    bytes: u64,
    depth: usize,
    calls: usize,
}

/// The verdict on a model that was read to its end.
pub(crate) fn conclude(mut shared: Shared, bytes: u64) -> Result<Report, Stop> {
    let ir_version = shared.ir_version.ok_or(Reason::Incomplete("ir_version"))?;
    let main = shared.main.take().ok_or(Reason::Incomplete("graph"))?;
    if shared.opsets.is_empty() {
        return Err(Reason::Incomplete("opset_import").into());
    }
    let index: BTreeMap<&Key, usize> =
        shared.functions.iter().enumerate().map(|(at, (function, _))| (&function.key, at)).collect();
    let domains: BTreeSet<&str> = index.keys().map(|key| key.domain.as_str()).collect();
    for (function, scope) in &shared.functions {
        uses(scope, &function.opsets, &index, &domains)?;
    }
    uses(&main, &shared.opsets, &index, &domains)?;
    // A function that is called once is moved, not copied.
    let most = shared.limits.expanded_nodes.max(reached(&main, &shared, &index));
    let sizes = expand(&shared, &index, most)?;
    let mut size = grow(&main, &index, |at| sizes.get(at).copied().flatten());
    // The graph's own bytes are not copied.
    size.bytes = size.bytes.saturating_sub(main.bytes);
    bounded(size, most, &shared, "graph")?;

    let initializers = core::mem::take(&mut shared.initializer_names);
    shared.inputs.retain(|value| !initializers.contains(&value.name));
    let warnings = warnings(&shared, bytes, &domains);
    let functions = shared
        .functions
        .iter()
        .map(|(function, scope)| report::Function {
            domain: function.key.domain.clone(),
            name: function.key.name.clone(),
            overload: function.key.overload.clone(),
            nodes: scope.nodes,
        })
        .collect();
    Ok(Report {
        bytes,
        ir_version,
        producer: report::printable(&shared.producer),
        opsets: shared.opsets.into_iter().collect(),
        inputs: shared.inputs,
        outputs: shared.outputs,
        nodes: shared.nodes,
        expanded_nodes: size.nodes,
        operators: shared.operators,
        functions,
        initializers: shared.initializers,
        external: shared.references.into_values().collect(),
        depth: size.depth.max(shared.depth),
        warnings,
    })
}

/// Refuses a scope that uses a domain or function that nobody answers for, or an operator set that it does not import.
fn uses(
    scope: &Scope,
    opsets: &[(String, i64)],
    functions: &BTreeMap<&Key, usize>,
    domains: &BTreeSet<&str>,
) -> Result<(), Stop> {
    for (domain, place) in &scope.domains {
        let reason = if operators::domain(domain).is_none() && !domains.contains(domain.as_str()) {
            Reason::Domain
        } else if !opsets.iter().any(|(imported, _)| imported == domain) {
            Reason::Opset
        } else {
            continue;
        };
        return Err(Stop(reason, Some(place.clone())));
    }
    match scope.calls.iter().find(|(key, _)| !functions.contains_key(key)) {
        Some((_, call)) => Err(Stop(Reason::FunctionMissing, Some(call.place.clone()))),
        None => Ok(()),
    }
}

/// Nodes of the main graph and of the functions that it calls, each once. What nobody calls allows nothing.
fn reached(main: &Scope, shared: &Shared, index: &BTreeMap<&Key, usize>) -> u64 {
    let mut seen = BTreeSet::new();
    let mut open = vec![main];
    let mut nodes = 0_u64;
    while let Some(scope) = open.pop() {
        nodes = nodes.saturating_add(scope.nodes);
        for callee in scope.calls.keys().filter_map(|key| index.get(key)) {
            if let (true, Some((_, scope))) = (seen.insert(*callee), shared.functions.get(*callee)) {
                open.push(scope);
            }
        }
    }
    nodes
}

/// The size of every function, those first that call none. What is left over calls itself.
fn expand(shared: &Shared, index: &BTreeMap<&Key, usize>, most: u64) -> Result<Vec<Option<Size>>, Stop> {
    let total = shared.functions.len();
    let mut callers: Vec<Vec<usize>> = vec![Vec::new(); total];
    let mut open: Vec<usize> = vec![0; total];
    for (at, (_, scope)) in shared.functions.iter().enumerate() {
        for callee in scope.calls.keys().filter_map(|key| index.get(key)) {
            callers[*callee].push(at);
            open[at] += 1;
        }
    }
    let mut sizes: Vec<Option<Size>> = vec![None; total];
    let mut ready: Vec<usize> = (0..total).filter(|at| open[*at] == 0).collect();
    while let Some(at) = ready.pop() {
        let scope = &shared.functions[at].1;
        let size = grow(scope, index, |callee| sizes.get(callee).copied().flatten());
        bounded(size, most.max(scope.nodes), shared, &format!("functions[{at}]"))?;
        sizes[at] = Some(size);
        for caller in &callers[at] {
            open[*caller] -= 1;
            if open[*caller] == 0 {
                ready.push(*caller);
            }
        }
    }
    match sizes.iter().position(Option::is_none) {
        Some(at) => Err(Stop(Reason::Recursion, Some(format!("functions[{at}]")))),
        None => Ok(sizes),
    }
}

/// A scope with its calls replaced by bodies of known sizes.
fn grow(scope: &Scope, index: &BTreeMap<&Key, usize>, size: impl Fn(usize) -> Option<Size>) -> Size {
    let mut all = Size { nodes: scope.nodes, nested: scope.nested, bytes: scope.bytes, depth: scope.depth, calls: 0 };
    for (key, call) in &scope.calls {
        if let Some(callee) = index.get(key).and_then(|at| size(*at)) {
            all.nodes = all.nodes.saturating_add(call.count.saturating_mul(callee.nodes));
            all.nested = all.nested.saturating_add(call.nested.saturating_mul(callee.nested));
            all.bytes = all.bytes.saturating_add(call.count.saturating_mul(callee.bytes));
            all.depth = all.depth.max(call.level.saturating_add(callee.depth));
            all.calls = all.calls.max(callee.calls.saturating_add(1));
        }
    }
    all
}

fn bounded(size: Size, most: u64, shared: &Shared, place: &str) -> Result<(), Stop> {
    let limits = &shared.limits;
    let reason = if size.nodes > most {
        Reason::Expansion(most)
    } else if size.bytes > limits.copied_bytes {
        Reason::Copies(limits.copied_bytes)
    } else if size.depth > limits.subgraphs {
        Reason::Subgraphs(limits.subgraphs)
    } else if size.nested > limits.nested_nodes {
        Reason::Nesting(limits.nested_nodes)
    } else if size.calls > limits.calls {
        Reason::Calls(limits.calls)
    } else {
        return Ok(());
    };
    Err(Stop(reason, Some(place.to_owned())))
}

fn warnings(shared: &Shared, bytes: u64, domains: &BTreeSet<&str>) -> Vec<Warning> {
    let unused_domain =
        shared.opsets.iter().any(|(name, _)| operators::domain(name).is_none() && !domains.contains(name.as_str()));
    let shapeless = shared.inputs.iter().any(|value| match &value.value_type {
        ValueType::Missing => true,
        ValueType::Tensor { element, shape } => *element == 0 || shape.is_none(),
        _ => false,
    });
    [
        (bytes > i32::MAX.unsigned_abs().into(), Warning::TwoGibibytes),
        (shared.initializer_twice, Warning::InitializerTwice),
        (unused_domain, Warning::UnusedDomain),
        (shapeless, Warning::InputShape),
        (shared.long_loop, Warning::LongLoop),
        (shared.references.len() < shared.files.len(), Warning::UnusedFile),
    ]
    .into_iter()
    .filter_map(|(seen, warning)| seen.then_some(warning))
    .collect()
}
