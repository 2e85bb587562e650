package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestConformance runs the suite of the OCI distribution specification against `ecsbuild serve`,
// with everything in it that may be left out but sparse manifests: an index of what is
// not there is a mistake.
func TestConformance(t *testing.T) {
	if os.Getenv("ECSBUILD_TEST_ENGINES") == "" {
		t.Skip("needs the conformance suite: make test")
	}
	install(t, "conformance")
	serve := exec.Command("ecsbuild", "serve")
	serve.Dir = t.TempDir()
	serve.Env = []string{"HOME=" + serve.Dir, "PATH=" + os.Getenv("PATH")}
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serve.Process.Signal(os.Interrupt); _ = serve.Wait() })
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	suite := exec.Command(scriptEngine(t, "where", "conformance"))
	suite.Dir = t.TempDir()
	suite.Env = []string{"PATH=" + os.Getenv("PATH"), "OCI_REGISTRY=" + strings.TrimSpace(addr), "OCI_TLS=disabled",
		"OCI_API_BLOBS_UPLOAD_CANCEL=true", "OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true"}
	printed, err := suite.CombinedOutput()
	_, result, found := strings.Cut(string(printed), "OCI Conformance Result: ")
	if err != nil || !found || !strings.HasPrefix(result, "Pass") {
		t.Fatalf("%v\n%s", err, printed)
	}
	t.Log(result)
}
