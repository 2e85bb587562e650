package fault

import (
	"errors"
	"testing"
)

func TestError(t *testing.T) {
	e := &Error{Place: "ecsbuild.yml:1:2", What: "what", Why: "why", Fix: "fix"}
	if e.Error() != "ecsbuild.yml:1:2: what: why; fix" || (&Error{What: "what"}).Error() != "what" {
		t.Error(e)
	}
	all := Errors{e, {What: "two"}}
	if all.Error() != e.Error()+"\ntwo" || len(all.Unwrap()) != 2 || all.OrNil() == nil || Errors(nil).OrNil() != nil {
		t.Error(all)
	}
}

// TestSetFile names the file of the errors that have a place in it.
func TestSetFile(t *testing.T) {
	in, elsewhere := &Error{Place: "ecsbuild.yml:1:2"}, &Error{Place: "IMAGE_TAG"}
	SetFile(Errors{in, elsewhere}, "/src/ecsbuild.yml")
	SetFile(errors.New("another"), "/src/ecsbuild.yml")
	SetFile(elsewhere, "")
	if in.File != "/src/ecsbuild.yml" || elsewhere.File != "" {
		t.Errorf("%+v %+v", in, elsewhere)
	}
}

func TestClosest(t *testing.T) {
	words := []string{"production", "dockerfile", "us-east-1"}
	for word, want := range map[string]string{"producton": "production", "DOCKERFIEL": "dockerfile",
		"p-east-1": "us-east-1", "us-eats-1": "us-east-1", "production": "", "x": ""} {
		if got := Closest(word, words); got != want {
			t.Errorf("%s: %q", word, got)
		}
	}
	if DidYouMean("producton", words) != `did you mean "production"? ` || DidYouMean("x", words) != "" {
		t.Error(DidYouMean("producton", words))
	}
	for _, tt := range []struct {
		a, b string
		n    int
	}{{"", "abc", 3}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"same", "same", 0}} {
		if got := Distance(tt.a, tt.b); got != tt.n {
			t.Errorf("%s %s: %d", tt.a, tt.b, got)
		}
	}
}
