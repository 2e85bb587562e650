package diagnose

import (
	"errors"
	"regexp"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/iampolicy"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
)

// refusedByEngine is what an engine says of a registry that refuses a pull.
var refusedByEngine = regexp.MustCompile(`(?i)denied|403|unauthorized|not authorized|no basic auth`)

// load is about an image that the gates of a run cannot have.
func (f Facts) load(e *pipeline.LoadError, err error) Finding {
	found := Finding{What: "cannot load the image for the gates", Why: e.Err.Error(), Exit: ExitOther}
	if errors.Is(err, builder.ErrOtherImage) {
		found.What = "the gates may have tested another image"
	}
	var img *pipeline.ImageError
	if errors.As(err, &img) {
		found.What = img.Image.Name() + ": " + found.What
	}
	var pull *builder.PullError
	switch {
	case errors.As(err, &pull) && refusedByEngine.MatchString(pull.Err.Error()):
		found.Exit = ExitPermission
		found.Why = "it was not built by this run, and may not be pulled: " + pull.Err.Error()
		found.Do = append([]string{
			"add this to the policy of the role, or, where that is why it was not built, leave reuse out:"},
			iampolicy.Statement([]string{"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"},
				f.Repository(pull.Ref.Repository))...)
	case errors.As(err, &pull):
		found.Do = []string{"see that the Docker engine reaches " + pull.Ref.Registry +
			", or, where that is why it was not built, leave reuse out"}
	case errors.Is(err, builder.ErrOutdated):
		found.Do = []string{"run again, with nothing that changes the sources meanwhile"}
	case errors.Is(err, builder.ErrOtherImage):
		found.Do = []string{"give each build a tag of its own, or run one after the other"}
	case errors.Is(err, builder.ErrOtherResult):
		found.Do = []string{"leave no_cache and max_age out for images that share steps with another one"}
	default:
		found.Do = []string{"see that the Docker engine which docker commands reach has room for the image"}
	}
	return found
}
