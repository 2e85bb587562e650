package imagedef

import "testing"

func FuzzValidate(f *testing.F) {
	for _, s := range []string{`[]`, `[{"name":"a","imageUri":"b:c"}]`, "\xef\xbb\xbf[]", `{"ImageURI":"x"}`,
		`[{"name":1}]`, `[{}`, "[1]x", "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		defs, problems := Validate(data, func(string) (bool, string) { return false, "" })
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.What == "" {
				t.Errorf("%+v", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		// What passes is what Encode could have written.
		out, err := Encode(defs)
		if err != nil {
			t.Fatalf("%v of %q", err, data)
		}
		if again, problems := Validate(out, nil); len(problems) > 0 || len(again) != len(defs) {
			t.Errorf("%q passes, and is %+v when it is written again", data, problems)
		}
	})
}
