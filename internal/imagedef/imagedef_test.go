package imagedef

import (
	"fmt"
	"strings"
	"testing"
)

func TestEncode(t *testing.T) {
	got, err := Encode([]Definition{{"app", "1.dkr.ecr.us-east-1.amazonaws.com/a:v1"}, {"b&<é>", "x"}})
	const want = `[{"name":"app","imageUri":"1.dkr.ecr.us-east-1.amazonaws.com/a:v1"},{"name":"b&<é>","imageUri":"x"}]` +
		"\n"
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if got, _ := Encode(nil); string(got) != "[]\n" {
		t.Errorf("nothing is %s", got)
	}
	if got, _ := EncodeDetail("r@sha256:1"); string(got) != `{"ImageURI":"r@sha256:1"}`+"\n" {
		t.Errorf("%s", got)
	}
}

func TestTooLarge(t *testing.T) {
	var defs []Definition
	for i := range 500 {
		defs = append(defs, Definition{fmt.Sprint("c", i), strings.Repeat("x", 200)})
	}
	if _, err := Encode(defs); err == nil {
		t.Error("more than 100 KB is encoded")
	}
	if _, err := Encode(defs[:400]); err != nil {
		t.Error(err)
	}
}
