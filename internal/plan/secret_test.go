package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSecretPrintsNowhere(t *testing.T) {
	s := NewSecret("hunter2")
	type holder struct {
		S Secret
		P *Secret
	}
	h := holder{s, &s}
	j, _ := json.Marshal(h)
	for _, out := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %q %x %s %d", s, s, s, s, s, s, s),
		fmt.Sprintf("%v %+v %#v", h, h, h), string(j), s.LogValue().String(), errors.New(fmt.Sprint(h)).Error()} {
		if strings.Contains(out, "hunter2") || strings.Contains(out, "68756e746572") {
			t.Errorf("it prints: %s", out)
		}
	}
}
