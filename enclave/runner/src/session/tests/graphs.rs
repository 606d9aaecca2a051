//! Turns a few words into models, written out byte by byte; onnx.proto has the numbers.
//! They are as small as models can be: what large ones cost is the benchmark's.

/// `field` of a protobuf message, as bytes.
pub fn bytes(field: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    let mut length = body.len();
    while length >= 128 {
        out.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

/// A small number in `field` of a protobuf message.
pub fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// A value of this ONNX datatype and these dimensions, of which 0 is any size.
pub fn value(name: &str, ty: u8, dims: &[u8]) -> Vec<u8> {
    let dim = |size: &u8| bytes(1, &if *size == 0 { bytes(2, b"N") } else { number(1, *size) });
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [number(1, ty), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// An operator with one output.
pub fn node(inputs: &[&str], output: &str, operator: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
    [inputs, bytes(2, output.as_bytes()), bytes(4, operator.as_bytes())].concat()
}

/// A model of this graph.
pub fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    [number(1, 9), bytes(7, &graph.concat()), bytes(8, &number(2, 19))].concat()
}

/// y = x + w, with w = [10, 20] in the graph, or in the file `w.bin`.
pub fn add(external: bool) -> Vec<u8> {
    let entry = |k: &str, v: &str| bytes(13, &[bytes(1, k.as_bytes()), bytes(2, v.as_bytes())].concat());
    let data = if external { [entry("location", "w.bin"), number(14, 1)].concat() } else { bytes(9, &weights()) };
    let tensor = [number(1, 2), number(2, 1), bytes(8, b"w"), data].concat();
    let ports = [bytes(11, &value("x", 1, &[0, 2])), bytes(12, &value("y", 1, &[0, 2]))].concat();
    model(&[bytes(1, &node(&["x", "w"], "y", "Add")), bytes(2, b"g"), bytes(5, &tensor), ports])
}

/// Of [`add`].
pub fn weights() -> Vec<u8> {
    floats(&[10.0, 20.0])
}

/// Little-endian.
pub fn floats(list: &[f32]) -> Vec<u8> {
    list.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// y = x, of this ONNX datatype; the shape of `y` is declared as these dimensions.
pub fn identity(ty: u8, declared: &[u8]) -> Vec<u8> {
    let ports = [bytes(11, &value("x", ty, &[0])), bytes(12, &value("y", ty, declared))].concat();
    model(&[bytes(1, &node(&["x"], "y", "Identity")), bytes(2, b"g"), ports])
}

/// Goes round `n` times, and gives x.
pub fn endless() -> Vec<u8> {
    let body = [
        bytes(1, &node(&["c"], "d", "Identity")),
        bytes(1, &node(&["v"], "w", "Identity")),
        bytes(2, b"body"),
        bytes(11, &value("i", 7, &[])),
        bytes(11, &value("c", 9, &[])),
        bytes(11, &value("v", 1, &[1])),
        bytes(12, &value("d", 9, &[])),
        bytes(12, &value("w", 1, &[1])),
    ];
    let attribute = [bytes(1, b"body"), bytes(6, &body.concat()), vec![0xA0, 1, 5]].concat();
    let looping = [node(&["n", "", "x"], "y", "Loop"), bytes(5, &attribute)].concat();
    let ports = [value("n", 7, &[]), value("x", 1, &[1])].map(|value| bytes(11, &value)).concat();
    model(&[bytes(1, &looping), bytes(2, b"g"), ports, bytes(12, &value("y", 1, &[1]))])
}

/// y = 0, of as many elements as `n`, a list of dimensions, says.
pub fn zeros() -> Vec<u8> {
    let ports = [bytes(11, &value("n", 7, &[1])), bytes(12, &value("y", 1, &[0]))].concat();
    model(&[bytes(1, &node(&["n"], "y", "ConstantOfShape")), bytes(2, b"g"), ports])
}
