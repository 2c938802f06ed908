package main

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// Members implements EtcdService.
func (a *admin) Members(ctx context.Context, _ *etcdapi.MembersRequest) (*etcdapi.MembersResponse, error) {
	m, err := a.member()
	if err != nil {
		return nil, err
	}
	cluster := m.Server.Cluster()
	members := m.members()
	leader := m.Server.Leader()
	response := &etcdapi.MembersResponse{ClusterId: cluster.ID().String(), LeaderId: idText(leader)}
	for i, each := range a.prober.rollCall(ctx, cluster.ID(), members, m.Server.MemberID()) {
		info := &etcdapi.Member{
			Id: members[i].ID.String(), Name: members[i].Name,
			PeerUrls: members[i].PeerURLs, ClientUrls: members[i].ClientURLs,
			Learner: each.learner, Leader: members[i].ID == leader, Reachable: each.answers, Message: each.trouble,
		}
		if each.learner && info.Message == "" {
			info.Message = a.learners.message(members[i].ID)
		}
		response.Members = append(response.Members, info)
	}
	return response, nil
}

// idText is an ID as people read it; empty when there is none.
func idText(id types.ID) string {
	if id == types.ID(raft.None) {
		return ""
	}
	return id.String()
}

// Status implements EtcdService.
func (a *admin) Status(ctx context.Context, _ *etcdapi.StatusRequest) (*etcdapi.StatusResponse, error) {
	response := &etcdapi.StatusResponse{Name: a.flags.name, Version: version.Version, DbQuota: a.flags.quotaBytes, Events: a.events.all()}
	m := a.running.Load()
	if m == nil {
		response.Problems = []string{*a.phase.Load()}
		return response, nil
	}
	server := m.Server
	leader := server.Leader()
	response.MemberId = server.MemberID().String()
	response.LeaderId = idText(leader)
	response.Leader = leader == server.MemberID()
	response.Learner = m.isLearner()
	response.RaftTerm, response.RaftIndex, response.RaftAppliedIndex = server.Term(), server.CommittedIndex(), server.AppliedIndex()
	response.DbSize, response.DbSizeInUse = server.Backend().Size(), server.Backend().SizeInUse()
	if leader == types.ID(raft.None) {
		response.Problems = append(response.Problems, leaderless(a.rollCall(ctx, m)))
	}
	if response.Learner {
		response.Problems = append(response.Problems, "this member does not vote yet: "+a.learners.message(server.MemberID()))
	}
	for _, each := range server.Alarms() {
		response.Problems = append(response.Problems, alarmProblem(m, each))
	}
	response.Problems = append(response.Problems, a.snapshots.problems()...)
	return response, nil
}

// leaderless says why there is no leader.
func leaderless(roll []presence) string {
	if problem := noQuorum(roll); problem != "" {
		return problem
	}
	voters, answers, _ := votes(roll)
	return fmt.Sprintf("etcd has no leader, though %d of %d members answer: an election is under way", answers, len(voters))
}

// isLearner tells whether the member does not vote yet. One that has just begun
// does not find itself among the members it knows: it is one, too.
func (m *member) isLearner() bool {
	self := m.Server.Cluster().Member(m.Server.MemberID())
	return self == nil || self.IsLearner
}

// alarmProblem says what an alarm means and what to do.
func alarmProblem(m *member, alarm *etcdserverpb.AlarmMember) string {
	who := m.nameOf(types.ID(alarm.MemberID))
	switch alarm.Alarm {
	case etcdserverpb.AlarmType_NOSPACE:
		return fmt.Sprintf("%s: the database is full (NOSPACE), nothing can be written: delete what is not needed, "+
			"run osctl etcd defrag on every control-plane node, then osctl etcd alarms --disarm", who)
	case etcdserverpb.AlarmType_CORRUPT:
		return fmt.Sprintf("%s: its data is not what the others have (CORRUPT): osctl reset that node, so that it joins anew, "+
			"then osctl etcd alarms --disarm", who)
	}
	return fmt.Sprintf("%s raised alarm %s", who, alarm.Alarm)
}

// nameOf finds a member's name.
func (m *member) nameOf(id types.ID) string {
	if known := m.Server.Cluster().Member(id); known != nil {
		return nameOf(known)
	}
	return "member " + id.String()
}
