package report

// Kind is what a Span is.
type Kind string

const (
	Prepare Kind = "prepare" // credentials, engine and checks
	Look    Kind = "look"    // whether an image has changed
	Step    Kind = "step"    // of a build
	Base    Kind = "base"    // a step that takes a base image
	Push    Kind = "push"    // a classic engine compresses and pushes
	Upload  Kind = "upload"  // one blob on its way to the registry
	Gate    Kind = "gate"    // a command of the user's, before the tags
	Tags    Kind = "tags"    // tags move
	Cache   Kind = "cache"   // a build cache is written, after the tags
)

// State is what became of an image.
type State string

const (
	Waiting  State = "waiting"
	Building State = "building"
	Done     State = "done"   // its layers are in the registry
	Reused   State = "reused" // it was not built, since it had not changed
	Failed   State = "failed"
	Stopped  State = "stopped" // by another one's failure, or by a signal
)
