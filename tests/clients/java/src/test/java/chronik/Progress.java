package chronik;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.TestPlan;

/** Prints a line for each test when it is over. */
public final class Progress implements TestExecutionListener {
  private final Map<String, Long> started = new ConcurrentHashMap<>();
  private TestPlan plan;

  @Override
  public void testPlanExecutionStarted(TestPlan testPlan) {
    plan = testPlan;
  }

  @Override
  public void executionStarted(TestIdentifier test) {
    started.put(test.getUniqueId(), System.nanoTime());
  }

  @Override
  public void executionFinished(TestIdentifier test, TestExecutionResult result) {
    if (!test.isTest()) return;
    var name = test.getDisplayName();
    for (var parent = plan.getParent(test); parent.isPresent(); parent = plan.getParent(parent.get())) {
      if (parent.get().getParentId().isPresent()) name = parent.get().getDisplayName() + "." + name;
    }
    var took = (System.nanoTime() - started.get(test.getUniqueId())) / 1_000_000;
    var ok = result.getStatus() == TestExecutionResult.Status.SUCCESSFUL;
    System.out.println((ok ? "ok " : "FAIL ") + name.replaceAll("\\([\\w, ]*\\)", "") + " (" + took + " ms)");
  }
}
