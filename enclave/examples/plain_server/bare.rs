//! Turns a request of the Open Inference Protocol into an answer with sessions in this very process: decode, run, encode, and nothing else.
//! It knows no policy, no lease and no receipt, and two datatypes: that makes it the cheaper side of every comparison.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as InPath, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use vouchsafe_enclave::serve::body;
use vouchsafe_oip::{Answer, Dtype, HEADER_LENGTH, Limits, Port, Ports, Request as InferRequest, Tensor};

use crate::{Outcome, PATIENCE, Prepared};

/// Enough for every body at once.
static ROOMS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1 << 22)));
const MAX_BODY: u64 = 8 << 20;
const LIMITS: Limits = Limits { max_input_bytes: 32 << 20 };

struct Model {
    ports: Ports,
    session: Mutex<Session>,
}

type Models = BTreeMap<String, Model>;

/// ONNX Runtime in this process.
///
/// # Errors
/// When it cannot be loaded.
pub fn environment(library: &Path) -> Outcome<Environment> {
    Ok(ort::init_from(library)?.with_name("plain").with_telemetry(false).build()?)
}

/// A session with the enclave's own options, or one whose threads wait busily, as ONNX Runtime's own default is.
///
/// # Errors
/// When ONNX Runtime refuses the model.
pub fn session(environment: &Environment, path: &Path, threads: usize, spin: bool) -> Outcome<Session> {
    let options = || -> ort::Result<SessionBuilder> {
        Ok(Session::builder(environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(spin)?
            .with_inter_op_spinning(spin)?)
    };
    let mut builder = options().map_err(|error| error.to_string())?;
    Ok(builder.commit_from_file(path).map_err(|error| error.to_string())?)
}

/// Loads every model.
///
/// # Errors
/// When one of them cannot be loaded or has other datatypes.
pub fn prepare(library: &Path, files: &[(String, PathBuf)], threads: usize) -> Outcome<Prepared> {
    let environment = environment(library)?;
    let mut models = Models::new();
    for (name, path) in files {
        let session = session(&environment, path, threads, false)?;
        let ports = Ports { inputs: ports(session.inputs())?, outputs: ports(session.outputs())? };
        models.insert(name.clone(), Model { ports, session: Mutex::new(session) });
    }
    let router = Router::new().route("/v2/models/{model}/infer", post(infer)).with_state(Arc::new(models));
    Ok(Prepared { router, session: Box::new(|| None) })
}

fn ports(outlets: &[Outlet]) -> Outcome<Vec<Port>> {
    let port = |outlet: &Outlet| -> Outcome<Port> {
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else { return Err("not a tensor".into()) };
        let dtype = match ty {
            TensorElementType::Float32 => Dtype::F32,
            TensorElementType::Int64 => Dtype::I64,
            _ => return Err("another datatype than FP32 and INT64".into()),
        };
        Ok(Port { name: outlet.name().to_owned(), dtype, shape: shape.to_vec() })
    };
    outlets.iter().map(port).collect()
}

async fn infer(State(models): State<Arc<Models>>, InPath(name): InPath<String>, request: Request) -> Response {
    match answered(&models, &name, request).await {
        Ok(answer) => reply(answer),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn answered(
    models: &Models,
    name: &str,
    request: Request,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let model = models.get(name).ok_or("no such model")?;
    let (parts, body) = request.into_parts();
    let header_len = body::number(&parts.headers, HEADER_LENGTH)?;
    let (body, _room) = body::read(&parts.headers, body, MAX_BODY, &ROOMS, Instant::now() + PATIENCE).await?;
    let request = InferRequest::decode(&body, header_len, &model.ports, &LIMITS)?;
    let outputs = model.run(&request)?;
    Ok(Answer::encode(name, "1", &request, &outputs, None)?)
}

impl Model {
    /// In the thread of the connection: nothing is cheaper.
    fn run(&self, request: &InferRequest) -> Result<Vec<Tensor>, Box<dyn std::error::Error + Send + Sync>> {
        let lists: Vec<List> = request.inputs.iter().map(List::of).collect();
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(lists.len());
        for (tensor, list) in request.inputs.iter().zip(&lists) {
            let shape = tensor.shape.as_slice();
            let value = match list {
                List::F32(list) => TensorRef::from_array_view((shape, list.as_slice()))?.into(),
                List::I64(list) => TensorRef::from_array_view((shape, list.as_slice()))?.into(),
            };
            values.push((&tensor.name, value));
        }
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let given = session.run(values)?;
        let mut outputs = Vec::with_capacity(request.outputs.len());
        for wanted in &request.outputs {
            let value = given.get(&wanted.name).ok_or("no such output")?;
            let (shape, list) = value.try_extract_tensor::<f32>()?;
            let mut data = Vec::with_capacity(list.len() * 4);
            list.iter().for_each(|x| data.extend_from_slice(&x.to_le_bytes()));
            let shape = shape.iter().map(|size| usize::try_from(*size)).collect::<Result<_, _>>()?;
            outputs.push(Tensor { name: wanted.name.clone(), dtype: Dtype::F32, shape, data: data.into() });
        }
        Ok(outputs)
    }
}

/// Elements, aligned.
enum List {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

impl List {
    fn of(tensor: &Tensor) -> Self {
        if tensor.dtype == Dtype::I64 {
            Self::I64(elements(&tensor.data, i64::from_le_bytes))
        } else {
            Self::F32(elements(&tensor.data, f32::from_le_bytes))
        }
    }
}

fn elements<const N: usize, T>(data: &Bytes, element: fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|bytes| element(*bytes)).collect()
}

fn reply(answer: Answer) -> Response {
    let mut response = Body::from(answer.body).into_response();
    let headers = response.headers_mut();
    let mut kind = "application/json";
    if answer.header_len > 0 {
        kind = "application/octet-stream";
        headers.insert("inference-header-content-length", answer.header_len.into());
    }
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
