package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/kubectl/pkg/cmd/set/env"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/scheme"
)

// forReplicas are the flags of run that make sense for a Deployment; the others
// are of a single pod.
var forReplicas = []string{
	"replicas", "image", "image-pull-policy", "env", "labels", "annotations", "port", "command", "dry-run", "output", "field-manager", "namespace",
}

// withReplicas adds to kubectl's run, which makes a pod, how many of it there
// are to be: then it makes a Deployment.
func (app *app) withReplicas(f cmdutil.Factory, command *cobra.Command) *cobra.Command {
	replicas := command.Flags().Int32("replicas", 0, "create a Deployment of so many pods instead of one pod")
	command.Long += "\n\n With --replicas a Deployment of that many pods is made instead."
	command.Example += "\n\n  # Start three pods of nginx that are replaced when they die\n  kubectl run nginx --image=nginx --replicas=3"
	pod := command.Run
	command.Run = func(command *cobra.Command, args []string) {
		if !command.Flags().Changed("replicas") {
			pod(command, args)
			return
		}
		cmdutil.CheckErr(app.runReplicas(f, command, args, *replicas))
	}
	return command
}

func (app *app) runReplicas(f cmdutil.Factory, command *cobra.Command, args []string, replicas int32) error {
	if len(args) == 0 {
		return cmdutil.UsageErrorf(command, "NAME is required for run")
	}
	if replicas < 0 {
		return cmdutil.UsageErrorf(command, "--replicas=%d: expected 0 or more", replicas)
	}
	var single error
	command.Flags().Visit(func(flag *pflag.Flag) {
		if !slices.Contains(forReplicas, flag.Name) && command.InheritedFlags().Lookup(flag.Name) == nil {
			single = cmdutil.UsageErrorf(command, "--%s is for a single pod: leave out --replicas, or it", flag.Name)
		}
	})
	if single != nil {
		return single
	}
	namespace, explicit, err := f.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return err
	}
	deployment, err := deploymentOf(command, args, replicas)
	if err != nil {
		return err
	}
	if explicit {
		deployment.Namespace = namespace
	}
	strategy, err := cmdutil.GetDryRunStrategy(command)
	if err != nil {
		return err
	}
	if strategy != cmdutil.DryRunClient {
		client, err := f.KubernetesClientSet()
		if err != nil {
			return err
		}
		options := metav1.CreateOptions{FieldManager: cmdutil.GetFlagString(command, "field-manager")}
		if strategy == cmdutil.DryRunServer {
			options.DryRun = []string{metav1.DryRunAll}
		}
		deployment, err = client.AppsV1().Deployments(namespace).Create(command.Context(), deployment, options)
		if err != nil {
			return err
		}
	}
	flags := genericclioptions.NewPrintFlags("created").WithTypeSetter(scheme.Scheme)
	*flags.OutputFormat = cmdutil.GetFlagString(command, "output")
	cmdutil.PrintFlagsWithDryRunStrategy(flags, strategy)
	printer, err := flags.ToPrinter()
	if err != nil {
		return err
	}
	return printer.PrintObj(deployment, app.stdout)
}

// deploymentOf is the Deployment that run's flags describe.
func deploymentOf(command *cobra.Command, args []string, replicas int32) (*appsv1.Deployment, error) {
	name, arguments := args[0], args[1:]
	image := cmdutil.GetFlagString(command, "image")
	if image == "" {
		return nil, errors.New("--image is required")
	}
	set := labels.Set{"run": name}
	if text := cmdutil.GetFlagString(command, "labels"); text != "" {
		var err error
		if set, err = labels.ConvertSelectorToLabelsMap(text); err != nil {
			return nil, fmt.Errorf("--labels=%s: %w", text, err)
		}
	}
	container := corev1.Container{Name: name, Image: image, ImagePullPolicy: corev1.PullPolicy(cmdutil.GetFlagString(command, "image-pull-policy"))}
	if cmdutil.GetFlagBool(command, "command") {
		container.Command = arguments
	} else {
		container.Args = arguments
	}
	var err error
	if container.Env, _, _, err = env.ParseEnv(cmdutil.GetFlagStringArray(command, "env"), nil); err != nil {
		return nil, err
	}
	if port := cmdutil.GetFlagString(command, "port"); port != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return nil, fmt.Errorf("--port=%s: expected a number from 1 to 65535", port)
		}
		container.Ports = []corev1.ContainerPort{{ContainerPort: int32(number)}}
	}
	annotations, _, err := cmdutil.ParsePairs(cmdutil.GetFlagStringArray(command, "annotations"), "annotations", false)
	if err != nil {
		return nil, err
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: set, Annotations: annotations},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: set},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: set, Annotations: annotations},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{container}},
			},
		},
	}, nil
}
