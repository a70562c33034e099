//! The JSON of a torch.export archive, schema 8.14 (torch 2.9) to 8.20 (torch 2.15). Fields that
//! the importer does not need are not declared; unknown ones are ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(crate) struct ExportedProgram {
    pub(crate) graph_module: GraphModule,
    pub(crate) schema_version: SchemaVersion,
    #[serde(default)]
    pub(crate) range_constraints: BTreeMap<String, RangeConstraint>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SchemaVersion {
    pub(crate) major: i64,
    pub(crate) minor: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RangeConstraint {
    pub(crate) min_val: Option<i64>,
    pub(crate) max_val: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GraphModule {
    pub(crate) graph: Graph,
    pub(crate) signature: Signature,
    #[serde(default)]
    pub(crate) module_call_graph: Vec<ModuleCall>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ModuleCall {
    pub(crate) fqn: String,
    pub(crate) signature: Option<ModuleSignature>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ModuleSignature {
    pub(crate) in_spec: Option<String>,
    pub(crate) out_spec: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    #[serde(default)]
    pub(crate) outputs: Vec<Value>,
    #[serde(default)]
    pub(crate) tensor_values: BTreeMap<String, TensorMeta>,
    #[serde(default)]
    pub(crate) sym_int_values: BTreeMap<String, SymInt>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) target: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    pub(crate) inputs: Vec<NamedArgument>,
    pub(crate) outputs: Vec<Argument>,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NamedArgument {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) arg: Argument,
}

/// An argument: a union encoded as an object with one key.
#[derive(Debug, Deserialize, Clone)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Argument {
    AsNone(bool),
    AsTensor(Named),
    AsTensors(Vec<Named>),
    AsOptionalTensor(OptionalTensor),
    AsOptionalTensors(Vec<OptionalTensor>),
    AsInt(i64),
    AsInts(Vec<i64>),
    AsFloat(Number),
    AsFloats(Vec<Number>),
    AsString(String),
    AsStrings(Vec<String>),
    AsBool(bool),
    AsBools(Vec<bool>),
    AsSymInt(SymIntArgument),
    AsSymInts(Vec<SymIntArgument>),
    AsSymBool(Value),
    AsSymBools(Value),
    AsSymFloat(Value),
    AsSymFloats(Value),
    AsScalarType(i64),
    AsMemoryFormat(i64),
    AsLayout(i64),
    AsDevice(Value),
    AsGraph(Value),
    AsCustomObj(Value),
    AsOperator(String),
    AsComplex(Value),
    AsNestedTensors(Value),
    AsIntLists(Value),
    #[serde(untagged)]
    Other(Value),
}

#[derive(Debug, Deserialize, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize, Clone)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OptionalTensor {
    AsTensor(Named),
    AsNone(bool),
}

#[derive(Debug, Deserialize, Clone)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SymIntArgument {
    AsName(String),
    AsInt(i64),
}

/// A float; non-finite ones are strings.
#[derive(Debug, Deserialize, Clone)]
#[serde(untagged)]
pub(crate) enum Number {
    Finite(f64),
    Text(String),
}

impl Number {
    pub(crate) fn value(&self) -> Option<f64> {
        match self {
            Number::Finite(v) => Some(*v),
            Number::Text(t) => match t.as_str() {
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                "NaN" => Some(f64::NAN),
                _ => None,
            },
        }
    }
}

#[derive(Debug, Deserialize, Clone)]
pub(crate) struct TensorMeta {
    pub(crate) dtype: i64,
    pub(crate) sizes: Vec<SymInt>,
    #[serde(default)]
    pub(crate) strides: Vec<SymInt>,
    pub(crate) storage_offset: Option<SymInt>,
}

#[derive(Debug, Deserialize, Clone)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SymInt {
    AsInt(i64),
    AsExpr(SymExpr),
}

#[derive(Debug, Deserialize, Clone)]
pub(crate) struct SymExpr {
    pub(crate) expr_str: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Signature {
    pub(crate) input_specs: Vec<InputSpec>,
    pub(crate) output_specs: Vec<OutputSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputSpec {
    UserInput { arg: Argument },
    Parameter { arg: Named, parameter_name: String },
    Buffer { arg: Named, buffer_name: String },
    TensorConstant { arg: Named, tensor_constant_name: String },
    ConstantInput { name: String },
    CustomObj(Value),
    Token(Value),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputSpec {
    UserOutput { arg: Argument },
    BufferMutation { arg: Named, buffer_name: String },
    ParameterMutation { arg: Named, parameter_name: String },
    UserInputMutation { arg: Named, user_input_name: String },
    LossOutput(Value),
    GradientToParameter(Value),
    GradientToUserInput(Value),
    Token(Value),
}

/// `model_weights_config.json` and `model_constants_config.json`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PayloadConfig {
    #[serde(default)]
    pub(crate) config: BTreeMap<String, Payload>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Payload {
    pub(crate) path_name: String,
    #[serde(default)]
    pub(crate) use_pickle: bool,
    pub(crate) tensor_meta: Option<TensorMeta>,
}
