//! Turns a domain and a name into whether ONNX Runtime's own code answers for that operator here.
//! It does not know an operator's version, inputs or attributes; ONNX Runtime compares those with its schemas.

/// The standard domain, written as the empty string; `ai.onnx` is the same.
pub(crate) const STANDARD: &str = "";
/// Classical machine learning.
pub(crate) const ML: &str = "ai.onnx.ml";
/// ONNX Runtime's own additions.
pub(crate) const MICROSOFT: &str = "com.microsoft";

/// The one spelling of a domain.
pub(crate) fn normal(domain: String) -> String {
    if domain == "ai.onnx" { String::new() } else { domain }
}

/// The operators of a supported domain, and its highest supported version (ONNX 1.20).
pub(crate) fn domain(name: &str) -> Option<(&'static [&'static str], i64)> {
    match name {
        STANDARD => Some((STANDARD_OPERATORS, 25)),
        ML => Some((ML_OPERATORS, 5)),
        MICROSOFT => Some((MICROSOFT_OPERATORS, 1)),
        _ => None,
    }
}

/// Whether a function of a model may not have this domain: ONNX Runtime has, or may have, operators of its own there, and whether
/// the function or the operator would run is not for a model to leave open.
pub(crate) fn reserved(domain: &str) -> bool {
    ["ai.onnx", "com.microsoft", "com.ms", "org.pytorch.aten"].iter().any(|taken| {
        domain.get(..taken.len()).is_some_and(|head| head.eq_ignore_ascii_case(taken))
            && matches!(domain.as_bytes().get(taken.len()), None | Some(b'.'))
    }) || domain.is_empty()
}

/// The operators whose attributes hold graphs.
pub(crate) const WITH_GRAPHS: &[&str] = &["If", "Loop", "Scan", "SequenceMap"];

/// Not here: early experiments (`Affine`, `Crop`, `DynamicSlice`, `ImageScaler`, `ParametricSoftplus`, `Scale`,
/// `ScaledTanh`), which ONNX took out and ONNX Runtime still runs in models of an opset below 10.
///
/// All of ONNX 1.20, opsets 1 to 25, and `SimplifiedLayerNormalization`, which ONNX Runtime's own tools write into this domain.
const STANDARD_OPERATORS: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "AffineGrid",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Attention",
    "AveragePool",
    "BatchNormalization",
    "Bernoulli",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "BlackmanWindow",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "CenterCropPad",
    "Clip",
    "Col2Im",
    "Compress",
    "Concat",
    "ConcatFromSequence",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DFT",
    "DeformConv",
    "DepthToSpace",
    "DequantizeLinear",
    "Det",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "EyeLike",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GridSample",
    "GroupNormalization",
    "HammingWindow",
    "HannWindow",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "If",
    "ImageDecoder",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "Loop",
    "LpNormalization",
    "LpPool",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "MaxRoiPool",
    "MaxUnpool",
    "Mean",
    "MeanVarianceNormalization",
    "MelWeightMatrix",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Multinomial",
    "Neg",
    "NegativeLogLikelihoodLoss",
    "NonMaxSuppression",
    "NonZero",
    "Not",
    "OneHot",
    "Optional",
    "OptionalGetElement",
    "OptionalHasElement",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
    "RMSNormalization",
    "RNN",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "RegexFullMatch",
    "Relu",
    "Reshape",
    "Resize",
    "ReverseSequence",
    "RoiAlign",
    "RotaryEmbedding",
    "Round",
    "STFT",
    "Scan",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SequenceMap",
    "Shape",
    "Shrink",
    "Sigmoid",
    "Sign",
    "SimplifiedLayerNormalization",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softmax",
    "SoftmaxCrossEntropyLoss",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "SplitToSequence",
    "Sqrt",
    "Squeeze",
    "StringConcat",
    "StringNormalizer",
    "StringSplit",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "TensorScatter",
    "TfIdfVectorizer",
    "ThresholdedRelu",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unique",
    "Unsqueeze",
    "Upsample",
    "Where",
    "Xor",
];

/// All of `ai.onnx.ml` versions 1 to 5.
const ML_OPERATORS: &[&str] = &[
    "ArrayFeatureExtractor",
    "Binarizer",
    "CastMap",
    "CategoryMapper",
    "DictVectorizer",
    "FeatureVectorizer",
    "Imputer",
    "LabelEncoder",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "ZipMap",
];

/// Those of `com.microsoft` that run on processors, for inference, on tensors alone.
///
/// Not here: `EPContext` and `Snpe` (a compiled model of somebody else's, from a file), `BeamSearch`, `GreedySearch`, `Sampling` and
/// `WhisperBeamSearch` (they run graphs of their own in loops of their own), `SampleOp` (a demonstration), operators for
/// training, and operators for other processors only.
const MICROSOFT_OPERATORS: &[&str] = &[
    "Attention",
    "AttnLSTM",
    "BiasGelu",
    "BifurcationDetector",
    "CDist",
    "ConvTransposeWithDynamicPads",
    "CropAndResize",
    "DecoderMaskedMultiHeadAttention",
    "DequantizeLinear",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "DynamicTimeWarping",
    "EmbedLayerNormalization",
    "ExpandDims",
    "FastGelu",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "GatherBlockQuantized",
    "GatherND",
    "Gelu",
    "GridSample",
    "GroupQueryAttention",
    "Inverse",
    "MatMulBnb4",
    "MatMulFpQ4",
    "MatMulInteger16",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "MaxpoolWithMask",
    "MoE",
    "MultiHeadAttention",
    "MurmurHash3",
    "NGramRepeatBlock",
    "NhwcFusedConv",
    "NhwcMaxPool",
    "Pad",
    "QAttention",
    "QEmbedLayerNormalization",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConcat",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMul",
    "QLinearReduceMean",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QLinearWhere",
    "QMoE",
    "QuantizeLinear",
    "QuickGelu",
    "Range",
    "RotaryEmbedding",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "SparseAttention",
    "SparseToDenseMatMul",
    "Tokenizer",
    "TransposeMatMul",
    "Trilu",
    "UnfoldTensor",
    "Unique",
    "WordConvEmbedding",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_because_they_are_searched() {
        for name in [STANDARD, ML, MICROSOFT] {
            let (operators, _) = domain(name).unwrap();
            assert!(operators.is_sorted_by(|a, b| a < b), "{name}");
        }
        assert_eq!(STANDARD_OPERATORS.len(), 199);
        assert_eq!(ML_OPERATORS.len(), 19);
        for name in ["Affine", "Crop", "DynamicSlice", "ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh"] {
            assert!(STANDARD_OPERATORS.binary_search(&name).is_err());
        }
        for name in WITH_GRAPHS {
            assert!(STANDARD_OPERATORS.binary_search(name).is_ok());
        }
        for name in
            ["EPContext", "Snpe", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch", "PythonOp", "SampleOp"]
        {
            assert!(MICROSOFT_OPERATORS.binary_search(&name).is_err());
        }
    }

    #[test]
    fn a_function_takes_no_name_that_may_be_taken() {
        for taken in [
            "",
            "ai.onnx",
            "ai.onnx.ml",
            "AI.ONNX.ML",
            "ai.onnx.contrib",
            "com.microsoft",
            "com.microsoft.nchwc",
            "com.ms.internal.nhwc",
        ] {
            assert!(reserved(taken), "{taken}");
        }
        for free in ["local", "pkg.torch.2.9.0", "pkg.onnxscript.torch_lib", "ai.onnxscript", "com.example"] {
            assert!(!reserved(free), "{free}");
        }
    }
}
