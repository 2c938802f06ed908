package host

import (
	"errors"
	"fmt"
	"path"
	"slices"
)

// ModuleStep is one module to load.
type ModuleStep struct {
	Name string
	Path string
	// After holds the indexes of the earlier steps that have to be over first.
	After []int
}

// UnknownModuleError says that the kernel has no such module.
type UnknownModuleError struct{ Name string }

func (e *UnknownModuleError) Error() string {
	return fmt.Sprintf("module %s: neither built into the kernel nor in the image", e.Name)
}

// Plan orders the loading of the named modules and all that they need; each is
// in it once, after what it needs. Built-in ones need no step. The error joins
// one *UnknownModuleError per name that does not exist; the plan for the others
// is still good.
func (m *Modules) Plan(names ...string) ([]ModuleStep, error) {
	p := plan{modules: m, index: map[string]int{}}
	var unknown []error
	for _, name := range names {
		if _, err := p.add(name); err != nil {
			unknown = append(unknown, err)
		}
	}
	return p.steps, errors.Join(unknown...)
}

// plan is a depth-first walk over the dependencies.
type plan struct {
	modules *Modules
	steps   []ModuleStep
	index   map[string]int // module → its step, or walking
}

// walking marks a module whose dependencies are being added: depmod writes no
// circles, but soft dependencies can make one.
const walking = -1

// add plans a module, or all modules of an alias, and returns their steps.
func (p *plan) add(name string) ([]int, error) {
	m, name := p.modules, canonical(name)
	if m.builtin[name] {
		return nil, nil
	}
	file, ok := m.files[name]
	if !ok {
		return p.addAlias(name)
	}
	if step, ok := p.index[name]; ok {
		if step == walking {
			return nil, nil
		}
		return []int{step}, nil
	}
	p.index[name] = walking
	var after []int
	for _, dep := range m.deps[name] {
		steps, err := p.add(dep)
		if err != nil {
			return nil, fmt.Errorf("module %s needs: %w", name, err)
		}
		after = append(after, steps...)
	}
	for _, dep := range m.pre[name] {
		// Soft means just that: an absent one does no harm.
		steps, _ := p.add(dep)
		after = append(after, steps...)
	}
	slices.Sort(after)
	step := len(p.steps)
	p.index[name] = step
	p.steps = append(p.steps, ModuleStep{
		Name:  name,
		Path:  path.Join(m.dir, file),
		After: slices.Compact(after),
	})
	for _, dep := range m.post[name] {
		_, _ = p.add(dep)
	}
	return []int{step}, nil
}

func (p *plan) addAlias(name string) ([]int, error) {
	names := p.modules.ByAlias(name)
	if len(names) == 0 {
		return nil, &UnknownModuleError{name}
	}
	var steps []int
	for _, module := range names {
		if module == name { // an alias of itself, and no such file
			return nil, &UnknownModuleError{name}
		}
		more, err := p.add(module)
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	return steps, nil
}
