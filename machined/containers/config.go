package containers

import (
	"bytes"
	_ "embed"
	"fmt"
	"path/filepath"
	"text/template"

	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/version"
)

// PauseImage is the image of every pod's sandbox. Its name is the OS's own: no
// registry has it, and none is asked.
const PauseImage = "keelson.local/pause:" + version.Version

//go:embed config.toml.tmpl
var configText string

var configTemplate = template.Must(template.New("config.toml").Funcs(template.FuncMap{
	"text":   quote[string],
	"secret": quote[machineconfig.Secret],
}).Parse(configText))

// config renders containerd's configuration. It holds credentials.
func (s *Service) config() ([]byte, error) {
	var text bytes.Buffer
	err := configTemplate.Execute(&text, struct {
		Pause, CNIDir, HostsDir string
		PluginDirs              []string
		Credentials             []credential
	}{PauseImage, s.options.CNIDir, filepath.Join(s.options.ConfigDir, hostsDir), s.pluginDirs(), credentials(&s.options.Registries)})
	if err != nil {
		return nil, fmt.Errorf("render containerd's config: %w", err)
	}
	return text.Bytes(), nil
}
