//! Turns the one table of routes into the router, and puts the session's gate in front of every route.
//! The gate is hygiene: a client is protected by what it verified, not by our refusing to talk.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};

use super::session::Session;
use super::{Service, attest, body, health, infer, metrics, models, stats};
use crate::error::EnclaveError;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Anyone.
    Open,
    /// A session that fetched evidence for what is served now.
    Attested,
}

/// What answers on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The process answers.
    Live,
    /// Every model could answer.
    Ready,
    /// Counters for the operator.
    Metrics,
    /// Evidence.
    Attest,
    /// Description of the server.
    Server,
    /// Names of the models.
    Models,
    /// Names, versions and states of the models.
    Index,
    /// Statistics of every model.
    AllStats,
    /// Description of a model.
    Model,
    /// Configuration of a model.
    ModelConfig,
    /// Statistics of a model.
    ModelStats,
    /// Whether a model could answer.
    ModelReady,
    /// Inference.
    Infer,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Its path, with `{model}` and `{version}`.
    pub path: &'static str,
    /// Its method.
    pub method: &'static str,
    /// Who may use it.
    pub gate: Gate,
    /// What answers.
    pub endpoint: Endpoint,
}

const fn route(method: &'static str, path: &'static str, gate: Gate, endpoint: Endpoint) -> Route {
    Route { path, method, gate, endpoint }
}

/// Every route there is. The router is built from this table and from nothing else.
pub const ROUTES: &[Route] = &[
    route("GET", "/v2/health/live", Gate::Open, Endpoint::Live),
    route("GET", "/v2/health/ready", Gate::Open, Endpoint::Ready),
    route("GET", "/metrics", Gate::Open, Endpoint::Metrics),
    route("POST", "/v1/attest", Gate::Open, Endpoint::Attest),
    route("GET", "/v2", Gate::Attested, Endpoint::Server),
    route("GET", "/v2/models", Gate::Attested, Endpoint::Models),
    route("GET", "/v2/models/stats", Gate::Attested, Endpoint::AllStats),
    route("POST", "/v2/repository/index", Gate::Attested, Endpoint::Index),
    route("GET", "/v2/models/{model}", Gate::Attested, Endpoint::Model),
    route("GET", "/v2/models/{model}/versions/{version}", Gate::Attested, Endpoint::Model),
    route("GET", "/v2/models/{model}/ready", Gate::Attested, Endpoint::ModelReady),
    route("GET", "/v2/models/{model}/versions/{version}/ready", Gate::Attested, Endpoint::ModelReady),
    route("GET", "/v2/models/{model}/config", Gate::Attested, Endpoint::ModelConfig),
    route("GET", "/v2/models/{model}/versions/{version}/config", Gate::Attested, Endpoint::ModelConfig),
    route("GET", "/v2/models/{model}/stats", Gate::Attested, Endpoint::ModelStats),
    route("GET", "/v2/models/{model}/versions/{version}/stats", Gate::Attested, Endpoint::ModelStats),
    route("POST", "/v2/models/{model}/infer", Gate::Attested, Endpoint::Infer),
    route("POST", "/v2/models/{model}/versions/{version}/infer", Gate::Attested, Endpoint::Infer),
];

impl Endpoint {
    fn handler(self) -> MethodRouter<Arc<Service>> {
        match self {
            Self::Live => get(health::live),
            Self::Ready => get(health::ready),
            Self::Metrics => get(metrics::metrics),
            Self::Attest => post(attest::attest),
            Self::Server => get(health::server),
            Self::Models => get(models::list),
            Self::Index => post(models::index),
            Self::AllStats => get(stats::all),
            Self::Model => get(models::metadata),
            Self::ModelConfig => get(models::config),
            Self::ModelStats => get(stats::one),
            Self::ModelReady => get(models::ready),
            Self::Infer => post(infer::infer),
        }
    }
}

/// The router of all connections. A request brings its session, an `Arc<Session>`, as an extension.
pub fn router(service: &Arc<Service>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, route.endpoint.handler());
    }
    router
        .method_not_allowed_fallback(|| async { EnclaveError::MethodUnsupported })
        .fallback(|| async { EnclaveError::RouteUnknown })
        .layer(from_fn_with_state(service.clone(), gate))
        .with_state(service.clone())
}

/// Decides before the body is read whether the session may use the route.
async fn gate(
    State(service): State<Arc<Service>>,
    Extension(session): Extension<Arc<Session>>,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let open = path.is_some_and(|path| ROUTES.iter().any(|r| r.path == path.as_str() && r.gate == Gate::Open));
    if !open {
        match session.admit(service.registry.current()) {
            Ok(admitted) => {
                request.extensions_mut().insert(admitted);
            }
            Err(error) => return refuse(&service, error, request).await,
        }
    }
    next.run(request).await
}

/// A session that must fetch evidence again does so on the same connection: what it already sent is read and forgotten.
async fn refuse(service: &Service, error: EnclaveError, request: Request<Body>) -> Response {
    let waits = request.headers().contains_key(header::EXPECT);
    if error == EnclaveError::Reattest && !waits {
        let deadline = tokio::time::Instant::now() + service.request_timeout;
        body::discard(request.into_body(), service.max_body_bytes, deadline).await;
    }
    let response = error.into_response();
    debug_assert_ne!(response.status(), StatusCode::OK);
    response
}
