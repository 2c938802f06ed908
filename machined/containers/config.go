package containers

import (
	"bytes"
	_ "embed"
	"fmt"
	"text/template"

	"github.com/keelson-os/keelson/pkg/version"
)

// PauseImage is the image of every pod's sandbox. Its name is the OS's own: no
// registry has it, and none is asked.
const PauseImage = "keelson.local/pause:" + version.Version

//go:embed config.toml.tmpl
var configText string

var configTemplate = template.Must(template.New("config.toml").Parse(configText))

// config renders containerd's configuration. It looks for CNI plugins in
// pluginDirs, in their order.
func config(cniDir string, pluginDirs []string) ([]byte, error) {
	var text bytes.Buffer
	err := configTemplate.Execute(&text, struct {
		Pause, CNIDir string
		PluginDirs    []string
	}{PauseImage, cniDir, pluginDirs})
	if err != nil {
		return nil, fmt.Errorf("render containerd's config: %w", err)
	}
	return text.Bytes(), nil
}
