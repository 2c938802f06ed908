package workloads

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-os/keelson/pkg/identity"
)

// actingRefused is in the message with which Kubernetes refuses to let apid act
// as anyone (the API server's forbidden message, of the verbs impersonate…).
var actingRefused = fmt.Sprintf("User %q cannot impersonate", identity.APID)

// codeOfReason is the gRPC code for what the API server gave as its reason.
var codeOfReason = map[metav1.StatusReason]codes.Code{
	metav1.StatusReasonForbidden:             codes.PermissionDenied,
	metav1.StatusReasonNotFound:              codes.NotFound,
	metav1.StatusReasonAlreadyExists:         codes.AlreadyExists,
	metav1.StatusReasonConflict:              codes.Aborted,
	metav1.StatusReasonGone:                  codes.Aborted,
	metav1.StatusReasonExpired:               codes.Aborted,
	metav1.StatusReasonInvalid:               codes.InvalidArgument,
	metav1.StatusReasonBadRequest:            codes.InvalidArgument,
	metav1.StatusReasonNotAcceptable:         codes.InvalidArgument,
	metav1.StatusReasonUnsupportedMediaType:  codes.InvalidArgument,
	metav1.StatusReasonRequestEntityTooLarge: codes.InvalidArgument,
	metav1.StatusReasonMethodNotAllowed:      codes.Unimplemented,
	metav1.StatusReasonTimeout:               codes.DeadlineExceeded,
	metav1.StatusReasonServerTimeout:         codes.Unavailable,
	metav1.StatusReasonTooManyRequests:       codes.Unavailable,
	metav1.StatusReasonServiceUnavailable:    codes.Unavailable,
}

// statusOf turns an error of client-go into a gRPC status. Kubernetes' own
// words are kept.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	if apierrors.IsUnauthorized(err) {
		return status.Error(codes.Unavailable,
			"Kubernetes does not accept apid's own certificate: it may still be starting; if this stays so, restart the service kube-apiserver")
	}
	if apierrors.IsForbidden(err) && strings.Contains(err.Error(), actingRefused) {
		// It says nothing about the caller's rights: the API server answers
		// before it has read who may do what.
		return status.Error(codes.Unavailable,
			"Kubernetes does not know this node's rights yet; try again in some seconds (if this stays so, osctl health says why)")
	}
	if answered := apierrors.APIStatus(nil); errors.As(err, &answered) {
		code, known := codeOfReason[apierrors.ReasonForError(err)]
		if !known {
			code = codes.Internal
		}
		return status.Error(code, err.Error())
	}
	if unanswered, ok := errors.AsType[*url.Error](err); ok {
		return status.Errorf(codes.Unavailable,
			"Kubernetes does not answer: it is starting, or has stopped (osctl health says which); %v", unanswered.Err)
	}
	return status.Error(codes.Internal, err.Error())
}

// statusMessage is the error as one object's result tells it.
func statusMessage(err error) string {
	return status.Convert(statusOf(err)).Message()
}
