import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.utilities.settings.FhirSettings;

/**
 * HL7's validator over the documents r4/*.json and r5/*.json of a folder: Validator FOLDER. A line
 * for each message: file, severity, place, id and text, with tabs between them.
 */
public class Validator {
  @SuppressWarnings("removal") // Of whatever names a network access in its place.
  public static void main(String[] arguments) throws Exception {
    FhirSettings.setProhibitNetworkAccess(true);
    var folder = Path.of(arguments[0]);
    validate(FhirContext.forR4(), folder.resolve("r4"));
    validate(FhirContext.forR5(), folder.resolve("r5"));
  }

  private static void validate(FhirContext fhir, Path folder) throws Exception {
    List<Path> files;
    try (var found = Files.list(folder)) {
      files = found.sorted().toList();
    }
    var validator = validator(fhir, files);
    for (var file : files) {
      for (var message : validator.validateWithResult(Files.readString(file)).getMessages()) {
        System.out.println(
            String.join(
                "\t",
                folder.getFileName() + "/" + file.getFileName(),
                message.getSeverity().getCode(),
                message.getLocationString(),
                message.getMessageId(),
                message.getMessage().replaceAll("\\s+", " ")));
      }
    }
  }

  /** It knows the StructureDefinitions that are among the documents. */
  private static FhirValidator validator(FhirContext fhir, List<Path> files) throws Exception {
    var ours = new PrePopulatedValidationSupport(fhir);
    for (var file : files) {
      var text = Files.readString(file);
      if (text.contains("\"resourceType\": \"StructureDefinition\"")) {
        ours.addStructureDefinition(fhir.newJsonParser().parseResource(text));
      }
    }
    var support =
        new ValidationSupportChain(
            new DefaultProfileValidationSupport(fhir),
            ours,
            new SnapshotGeneratingValidationSupport(fhir),
            new InMemoryTerminologyServerValidationSupport(fhir),
            new CommonCodeSystemsTerminologyService(fhir));
    var module = new FhirInstanceValidator(support);
    module.setErrorForUnknownProfiles(false);
    return fhir.newValidator().registerValidatorModule(module);
  }
}
