package report

// The kinds of a Span.
const (
	Prepare = "prepare" // credentials, engine and checks
	Look    = "look"    // whether an image has changed
	Step    = "step"    // of a build
	Base    = "base"    // a step that takes a base image
	Push    = "push"    // a classic engine compresses and pushes
	Upload  = "upload"  // one blob on its way to the registry
	Tags    = "tags"    // tags move
)

// The states of an image.
const (
	Waiting  = "waiting"
	Building = "building"
	Done     = "done"   // its layers are in the registry
	Reused   = "reused" // it was not built, since it had not changed
	Failed   = "failed"
	Stopped  = "stopped" // by another one's failure, or by a signal
)
