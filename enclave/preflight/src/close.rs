//! Turns a message that has ended into a fact of the message that holds it, or into a refusal.
//! What only the whole model can say is left to `finish`.

use crate::error::{Reason, Stop};
use crate::frame::{Frame, Shared, State};
use crate::operators;
use crate::report::{Value, ValueType};
use crate::scope::Function;
use crate::tensor::{Ended, product};

/// `GraphProto.input`, and `GraphProto.output`.
const INPUT: u8 = 11;
const OUTPUT: u8 = 12;

/// Ends `child` within `parent`; `place` tells where, if a rule must remember it.
pub(crate) fn close(
    mut child: Frame,
    parent: &mut Frame,
    shared: &mut Shared,
    place: &dyn Fn() -> String,
) -> Result<(), Stop> {
    let field = parent.current.map_or(0, |field| field.number);
    match core::mem::replace(&mut child.state, State::Plain) {
        State::Plain => {}
        State::Dimension(size) => {
            if let State::Shape(dims) = &mut parent.state {
                dims.push(size);
            }
        }
        State::Shape(dims) => {
            product(&dims, &shared.limits)?;
            if let State::TensorType(_, shape) = &mut parent.state {
                *shape = Some(dims);
            }
        }
        State::TensorType(element, shape) => {
            if let State::Type(kind) = &mut parent.state {
                let dense = field == 1;
                *kind = if dense { ValueType::Tensor { element, shape } } else { ValueType::SparseTensor };
            }
        }
        State::Type(mut kind) => {
            if kind == ValueType::Missing {
                kind = match () {
                    () if child.has(&[4]) => ValueType::Sequence,
                    () if child.has(&[5]) => ValueType::Map,
                    () if child.has(&[9]) => ValueType::Optional,
                    () => ValueType::Missing,
                };
            }
            if let State::Value(value) = &mut parent.state {
                value.value_type = kind;
            }
        }
        State::Value(value) => interface(*value, field, parent, shared)?,
        State::Metadata(key) => {
            if key.eq_ignore_ascii_case("ort_config") {
                return Err(Reason::Metadata.into());
            }
        }
        State::External(entry) => {
            if let State::Tensor(tensor) = &mut parent.state {
                tensor.external.entry(entry, shared)?;
            }
        }
        State::Tensor(tensor) => {
            // The tensors of a graph itself are its initialisers; the parts of sparse ones are those of `Sparse`.
            let outside = matches!(&parent.state, State::Graph(graph) if graph.main);
            let ended = tensor.end(outside, &child, shared)?;
            match &mut parent.state {
                State::Sparse(sparse) if field == 1 => sparse.values = Some(ended),
                State::Sparse(sparse) => sparse.indices = Some(ended),
                _ => tensor_of(ended, parent, shared)?,
            }
        }
        State::Sparse(sparse) => {
            let ended = sparse.end(shared)?;
            tensor_of(ended, parent, shared)?;
        }
        State::Attribute(attribute) => match &mut parent.state {
            State::Node(node) => node.attribute(*attribute, &child, shared)?,
            // A function's default for an attribute: no graph, and no reference to another attribute.
            _ => {
                if attribute.judge(&child, false)? {
                    return Err(Reason::AttributeGraph.into());
                }
            }
        },
        State::Node(node) => {
            if let State::Graph(graph) = &mut parent.state {
                graph.node(&node, shared)?;
            }
            shared.node(*node, place)?;
        }
        State::Graph(graph) if graph.main => shared.main = Some(shared.end_scope(None)?),
        State::Graph(graph) => {
            shared.level = shared.level.saturating_sub(1);
            if let State::Attribute(attribute) = &mut parent.state {
                attribute.next = graph.next();
            }
        }
        State::Function(function) => end_function(*function, shared)?,
        State::Opset(domain, version) => {
            let domain = operators::normal(domain);
            let highest = operators::domain(&domain).map_or(i64::from(i32::MAX), |(_, version)| version);
            shared.hold(&domain)?;
            let opsets = match &mut parent.state {
                State::Function(function) => &mut function.opsets,
                _ => &mut shared.opsets,
            };
            if !(1..=highest).contains(&version) || opsets.iter().any(|(other, _)| *other == domain) {
                return Err(Reason::Opset.into());
            }
            opsets.push((domain, version));
        }
    }
    Ok(())
}

/// A tensor of a graph or of an attribute.
fn tensor_of(ended: Ended, parent: &mut Frame, shared: &mut Shared) -> Result<(), Reason> {
    match &mut parent.state {
        State::Attribute(attribute) => {
            attribute.large |= ended.large;
            attribute.holds |= ended.holds;
        }
        State::Graph(graph) => {
            let sum = &mut shared.initializers;
            sum.count += 1;
            sum.bytes = sum.bytes.saturating_add(ended.bytes);
            if sum.bytes > shared.limits.initializer_bytes {
                return Err(Reason::Count("bytes of initialisers", shared.limits.initializer_bytes));
            }
            shared.constant(ended.name.clone(), ended.large, ended.holds)?;
            if graph.main {
                shared.hold(&ended.name)?;
                shared.initializer_twice |= !shared.initializer_names.insert(ended.name);
            } else {
                shared.define_inner(ended.name)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// An input or output of a graph is remembered. A function's descriptions of values have the number of a graph's outputs, and are none.
fn interface(value: Value, field: u8, parent: &mut Frame, shared: &mut Shared) -> Result<(), Reason> {
    let count = parent.counts[usize::from(field)];
    let State::Graph(graph) = &mut parent.state else { return Ok(()) };
    if !matches!(field, INPUT | OUTPUT) {
        return Ok(());
    }
    if !graph.main {
        if field == INPUT {
            if count == 2 {
                graph.condition.clone_from(&value.name);
            }
            return shared.define_inner(value.name);
        }
        if count == 1 {
            graph.next.clone_from(&value.name);
        }
        return shared.use_inner(value.name);
    }
    shared.hold(&value.name)?;
    if let ValueType::Tensor { shape: Some(dims), .. } = &value.value_type {
        let more = u64::try_from(dims.len()).unwrap_or(u64::MAX).saturating_mul(8);
        shared.hold_bytes(more)?;
    }
    if field == INPUT {
        shared.inputs.push(value)
    } else {
        shared.outputs.push(value)
    }
    Ok(())
}

/// A function's name must be one that nobody reads differently: ONNX Runtime joins its parts with colons, and looks among its own
/// operators too.
fn end_function(mut function: Function, shared: &mut Shared) -> Result<(), Stop> {
    let key = &mut function.key;
    key.domain = operators::normal(core::mem::take(&mut key.domain));
    let plain = |text: &str| text.bytes().all(|letter| letter.is_ascii_graphic() && letter != b':');
    let named = !key.name.is_empty() && [&key.domain, &key.name, &key.overload].into_iter().all(|text| plain(text));
    if !named || operators::reserved(&key.domain) {
        return Err(Reason::FunctionName.into());
    }
    for text in [&key.domain, &key.name, &key.overload] {
        shared.hold(text)?;
        shared.hold(text)?;
    }
    if !shared.function_keys.insert(key.clone()) {
        return Err(Reason::FunctionName.into());
    }
    shared.makes(&function.outputs)?;
    let scope = shared.end_scope(Some(&function.inputs))?;
    // Nothing asks for them again.
    function.inputs.clear();
    function.outputs.clear();
    shared.functions.push((function, scope));
    Ok(())
}
