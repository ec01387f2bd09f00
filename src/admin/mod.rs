//! cricket's own gRPC service beside the CRI: offline images now; progress, timelines and explanations later.
