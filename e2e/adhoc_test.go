package e2e
import ("testing";"time";"fmt";"github.com/prometheus/prometheus/prompb";"github.com/prometheus/prometheus/model/labels")
func TestAdhoc(t *testing.T){
 s:=startServer(t,"")
 now:=time.Now()
 for batch:=0;batch<6;batch++{
  var all []prompb.TimeSeries
  for i:=0;i<500;i++ { all=append(all, sample1(now.Add(-time.Minute),"__name__","m","i",fmt.Sprint(batch*500+i))) }
  st,txt:=(request{body:write1(t,all...)}).post(t,s); t.Log(st,txt)
  got:=readSamples(t,s.url(""),prompb.ReadRequest_SAMPLES,0,now.UnixMilli(),labels.MustNewMatcher(labels.MatchEqual,"__name__","m"))
  miss:=""
  for i:=0;i<(batch+1)*500;i++ { if _,ok:=got[labels.FromStrings("__name__","m","i",fmt.Sprint(i)).String()];!ok {miss+=fmt.Sprint(i," ")} }
  t.Log(batch,len(got),"missing",miss)
 }
}
